// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#include "CIndexKernels.h"

// Layouts as in LineTableMemory.
enum { IX_LOW = 24, IX_MIDDLE = 48, IX_COUNT = 60, IX_PASSED = 61, IX_PER_LINE = 12, IX_MAX_LINES = 64 };
enum { IX_PARTITION = 64, IX_DEPTH = 4, IX_PAGES = 5, IX_ENTRIES = 6, IX_PAGE_LOW = 12, IX_PAGE_HIGH = 44, IX_PAGE = 256 };

static char *ix_line(char *const *pages, uint32_t index) { return pages[index >> 2] + (index & 3) * 64; }

uint32_t ix_table_collect(char *const *pages, uint32_t lines, uint32_t high, uint64_t *entries) {
    uint32_t total = 0;
    // A partition is rarely in the near caches: all its lines are fetched at once, not one after the other.
    for (uint32_t i = 0; i < lines; i++) __builtin_prefetch(ix_line(pages, i), 1, 3);
    for (uint32_t i = 0; i < lines; i++) {
        const char *line = ix_line(pages, i);
        const uint16_t *first = (const uint16_t *)(const void *)line;
        const uint16_t *low = (const uint16_t *)(const void *)(line + IX_LOW);
        const uint8_t *middle = (const uint8_t *)line + IX_MIDDLE;
        uint32_t used = (uint8_t)line[IX_COUNT];
        for (uint32_t at = 0; at < used && at < IX_PER_LINE; at++) {
            uint32_t slot = (uint32_t)(first[at] & 7) << 24 | (uint32_t)middle[at] << 16 | low[at];
            entries[total++] = (uint64_t)(high | first[at] >> 3) << 32 | slot;
        }
    }
    return total;
}

void ix_table_place(char *const *pages, uint32_t lines, uint32_t home_bits, const uint64_t *entries, uint32_t count) {
    uint8_t used[IX_MAX_LINES] = {0}, passed[IX_MAX_LINES] = {0};
    const uint32_t mask = (1u << home_bits) - 1;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = (uint32_t)(entries[i] >> 32), slot = (uint32_t)entries[i];
        uint32_t index = (uint32_t)(((uint64_t)(key & mask) * lines) >> home_bits);
        while (used[index] == IX_PER_LINE) {
            passed[index] += passed[index] < 255;
            index = index + 1 == lines ? 0 : index + 1;
        }
        char *line = ix_line(pages, index);
        uint32_t at = used[index]++;
        __atomic_store_n((uint16_t *)(void *)line + at, (uint16_t)((key & 0x1FFF) << 3 | slot >> 24), __ATOMIC_RELAXED);
        __atomic_store_n((uint16_t *)(void *)(line + IX_LOW) + at, (uint16_t)slot, __ATOMIC_RELAXED);
        __atomic_store_n((uint8_t *)line + IX_MIDDLE + at, (uint8_t)(slot >> 16), __ATOMIC_RELAXED);
    }
    for (uint32_t i = 0; i < lines; i++)
        __atomic_store_n((uint16_t *)(void *)(ix_line(pages, i) + IX_COUNT), (uint16_t)(used[i] | passed[i] << 8),
                         __ATOMIC_RELAXED);
}

void ix_table_lift(char *const *pages, uint32_t lines, void *copy) {
    // A partition is rarely in the near caches: all its lines are fetched at once, not one after the other.
    for (uint32_t i = 0; i < lines; i++) __builtin_prefetch(ix_line(pages, i), 1, 3);
    for (uint32_t i = 0; i < lines; i++) memcpy((char *)copy + i * 64, ix_line(pages, i), 64);
}

uint32_t ix_table_count(const void *copy, uint32_t lines, uint16_t bit) {
    uint32_t total = 0;
    for (uint32_t i = 0; i < lines; i++) {
        const char *line = (const char *)copy + i * 64;
        const uint16_t *first = (const uint16_t *)(const void *)line;
        uint32_t used = (uint8_t)line[IX_COUNT];
        for (uint32_t at = 0; at < used; at++) total += (first[at] & bit) != 0;
    }
    return total;
}

// The lines where a line's entries have their homes: the key's low bits, moved to the top of 16, times the number of lines.
static void ix_homes(const uint16_t *first, uint32_t shift, uint32_t lines, uint16_t *homes) {
#if defined(__SSE2__)
    const __m128i key = _mm_set1_epi16((short)0xFFF8), factor = _mm_set1_epi16((short)lines);
    const __m128i by = _mm_cvtsi32_si128((int)shift);
    const __m128i a = _mm_and_si128(_mm_loadu_si128((const __m128i *)(const void *)first), key);
    const __m128i b = _mm_and_si128(_mm_loadl_epi64((const __m128i *)(const void *)(first + 8)), key);
    _mm_storeu_si128((__m128i *)(void *)homes, _mm_mulhi_epu16(_mm_sll_epi16(a, by), factor));
    _mm_storel_epi64((__m128i *)(void *)(homes + 8), _mm_mulhi_epu16(_mm_sll_epi16(b, by), factor));
#else
    for (uint32_t i = 0; i < IX_PER_LINE; i++)
        homes[i] = (uint16_t)((uint32_t)(uint16_t)((first[i] & 0xFFF8) << shift) * lines >> 16);
#endif
}

void ix_table_spread(const void *copy, uint32_t old, char *const *pages, uint32_t lines, uint32_t home_bits, uint16_t mask,
                     uint16_t value) {
    char *to[IX_MAX_LINES];
    uint8_t used[IX_MAX_LINES] = {0}, passed[IX_MAX_LINES] = {0};
    uint16_t homes[IX_PER_LINE];
    for (uint32_t i = 0; i < lines; i++) to[i] = ix_line(pages, i);
    for (uint32_t i = 0; i < old; i++) {
        const char *line = (const char *)copy + i * 64;
        const uint16_t *first = (const uint16_t *)(const void *)line;
        const uint16_t *low = (const uint16_t *)(const void *)(line + IX_LOW);
        const uint8_t *middle = (const uint8_t *)line + IX_MIDDLE;
        const uint32_t count = (uint8_t)line[IX_COUNT];
        ix_homes(first, 13 - home_bits, lines, homes);
        for (uint32_t at = 0; at < count && at < IX_PER_LINE; at++) {
            // Lines lie in the order of keys, so that both halves of a split come in one piece.
            if ((first[at] & mask) != value) continue;
            uint32_t index = homes[at];
            while (used[index] == IX_PER_LINE) {
                passed[index] += passed[index] < 255;
                index = index + 1 == lines ? 0 : index + 1;
            }
            char *place = to[index];
            const uint32_t free = used[index]++;
            __atomic_store_n((uint16_t *)(void *)place + free, first[at], __ATOMIC_RELAXED);
            __atomic_store_n((uint16_t *)(void *)(place + IX_LOW) + free, low[at], __ATOMIC_RELAXED);
            __atomic_store_n((uint8_t *)place + IX_MIDDLE + free, middle[at], __ATOMIC_RELAXED);
        }
    }
    for (uint32_t i = 0; i < lines; i++)
        __atomic_store_n((uint16_t *)(void *)(to[i] + IX_COUNT), (uint16_t)(used[i] | passed[i] << 8), __ATOMIC_RELAXED);
}

// How far ahead of the name at hand lines are fetched, and partitions ahead of them: a line comes from memory in the time
// that eight to sixteen insertions take.
enum { IX_LINES_AHEAD = 16, IX_PARTITIONS_AHEAD = 16 };

static uint32_t ix_key(uint64_t name) { return (uint32_t)(name >> 40); }

static char *ix_partition(const ix_table *table, uint32_t key) {
    uint32_t number;
    memcpy(&number, table->directory + 4 * (size_t)(key >> (table->key_bits - table->depth)), 4);
    return table->partitions + (size_t)number * IX_PARTITION;
}

static char *ix_page(const ix_table *table, const char *partition, uint32_t index) {
    uint16_t low;
    memcpy(&low, partition + IX_PAGE_LOW + index * 2, 2);
    return table->pages + (size_t)((uint32_t)(uint8_t)partition[IX_PAGE_HIGH + index] << 16 | low) * IX_PAGE;
}

static char *ix_partition_line(const ix_table *table, const char *partition, uint32_t index) {
    return ix_page(table, partition, index >> 2) + (index & 3) * 64;
}

static uint32_t ix_home(const ix_table *table, const char *partition, uint32_t key, uint32_t lines) {
    uint32_t bits = table->key_bits - (uint8_t)partition[IX_DEPTH];
    return (uint32_t)(((uint64_t)(key & ((1u << bits) - 1)) * lines) >> bits);
}

static uint16_t ix_entries(const char *partition) {
    uint16_t entries;
    memcpy(&entries, partition + IX_ENTRIES, 2);
    return entries;
}

static uint32_t ix_limit(const ix_table *table, const char *partition) {
    return (uint8_t)partition[IX_PAGES] * table->fill >> 6;
}

static void ix_fetch_line(const ix_table *table, uint64_t name) {
    const uint32_t key = ix_key(name);
    const char *partition = ix_partition(table, key);
    const uint32_t pages = (uint8_t)partition[IX_PAGES];
    if (pages == 0) return;
    if (ix_entries(partition) + 1u >= ix_limit(table, partition)) {
        // It will grow, which touches all of it.
        for (uint32_t page = 0; page < pages; page++)
            for (uint32_t line = 0; line < 4; line++)
                __builtin_prefetch(ix_page(table, partition, page) + line * 64, 1, 3);
        return;
    }
    const uint32_t home = ix_home(table, partition, key, pages * 4);
    __builtin_prefetch(ix_partition_line(table, partition, home), 1, 3);
    // Of lines as full as this, every third sends on to the next.
    __builtin_prefetch(ix_partition_line(table, partition, home + 1 == pages * 4 ? 0 : home + 1), 1, 3);
}

static inline __attribute__((always_inline)) void ix_fetch(const ix_table *table, const uint64_t *names,
                                                           uint32_t *fetched, uint32_t end, uint32_t known) {
    for (; *fetched < end; ++*fetched) {
        uint32_t further = *fetched + IX_PARTITIONS_AHEAD;
        if (further < known) __builtin_prefetch(ix_partition(table, ix_key(names[further])), 1, 3);
        ix_fetch_line(table, names[*fetched]);
    }
}

void ix_table_approach(const ix_table *table, const uint64_t *names, uint32_t first, uint32_t known, uint32_t *fetched) {
    if (*fetched < first) {
        *fetched = first;
        for (uint32_t i = first; i < known && i < first + IX_PARTITIONS_AHEAD; i++)
            __builtin_prefetch(ix_partition(table, ix_key(names[i])), 1, 3);
    }
    ix_fetch(table, names, fetched, known - first < IX_LINES_AHEAD ? known : first + IX_LINES_AHEAD, known);
}

static void ix_write(char *line, uint32_t used, uint16_t pattern, uint32_t slot) {
    ((uint16_t *)(void *)line)[used] = (uint16_t)(pattern | slot >> 24);
    ((uint16_t *)(void *)(line + IX_LOW))[used] = (uint16_t)slot;
    ((uint8_t *)line + IX_MIDDLE)[used] = (uint8_t)(slot >> 16);
    line[IX_COUNT] = (char)(used + 1);
}

// Whoever stands in a line under a name's key is a suspect. Gives the place for the next.
static inline __attribute__((always_inline)) ix_suspect *ix_suspect_all(const char *line, uint32_t used, uint16_t pattern,
                                                                        uint32_t name, uint32_t slot, ix_suspect *next) {
    uint32_t matches = ix_line_matches(line, pattern) & ((1u << used) - 1);
    // One in eleven has one: to write it down each time is cheaper than to be surprised.
    const uint32_t at = (uint32_t)__builtin_ctz(matches | 1u << 11);
    const uint16_t first = ((const uint16_t *)(const void *)line)[at];
    const uint16_t low = ((const uint16_t *)(const void *)(line + IX_LOW))[at];
    *next = (ix_suspect){name, slot, (uint32_t)(first & 7) << 24 | (uint32_t)((const uint8_t *)line)[IX_MIDDLE + at] << 16 | low};
    next += matches != 0;
    for (matches &= matches - 1; __builtin_expect(matches != 0, 0); matches &= matches - 1) {
        const uint32_t more = (uint32_t)__builtin_ctz(matches);
        const uint16_t high = ((const uint16_t *)(const void *)line)[more];
        *next++ = (ix_suspect){name, slot,
                               (uint32_t)(high & 7) << 24 | (uint32_t)((const uint8_t *)line)[IX_MIDDLE + more] << 16 |
                                   ((const uint16_t *)(const void *)(line + IX_LOW))[more]};
    }
    return next;
}

// Goes on behind a line that is full or was passed: all the lines that the name's probing passes are looked at.
static __attribute__((noinline)) ix_suspect *ix_place_further(const ix_table *table, char *partition, uint32_t index,
                                                              int is_placed, uint16_t pattern, uint32_t name,
                                                              uint32_t slot, ix_suspect *next) {
    const uint32_t lines = (uint8_t)partition[IX_PAGES] * 4u;
    for (uint32_t probes = 1; probes < lines; probes++) {
        index = index + 1 == lines ? 0 : index + 1;
        char *line = ix_partition_line(table, partition, index);
        const uint32_t used = (uint8_t)line[IX_COUNT], passed = (uint8_t)line[IX_PASSED];
        next = ix_suspect_all(line, used, pattern, name, slot, next);
        if (!is_placed) {
            if (used < IX_PER_LINE) {
                ix_write(line, used, pattern, slot);
                is_placed = 1;
            } else if (passed < 255) {
                // At 255 the counter stands still and no longer falls: probing goes on, at the cost of a line.
                line[IX_PASSED] = (char)(passed + 1);
            }
        }
        if (is_placed && passed == 0) break;
    }
    return next;
}

static inline __attribute__((always_inline)) ix_suspect *ix_place(const ix_table *table, char *partition, uint32_t key,
                                                                  uint32_t name, uint32_t slot, ix_suspect *next) {
    const uint32_t lines = (uint8_t)partition[IX_PAGES] * 4u;
    const uint16_t pattern = (uint16_t)((key & 0x1FFF) << 3);
    const uint32_t index = ix_home(table, partition, key, lines);
    char *line = ix_partition_line(table, partition, index);
    const uint32_t used = (uint8_t)line[IX_COUNT], passed = (uint8_t)line[IX_PASSED];
    next = ix_suspect_all(line, used, pattern, name, slot, next);
    if (used < IX_PER_LINE) {
        ix_write(line, used, pattern, slot);
        if (passed == 0) return next;
        return ix_place_further(table, partition, index, 1, pattern, name, slot, next);
    }
    if (passed < 255) line[IX_PASSED] = (char)(passed + 1);
    return ix_place_further(table, partition, index, 0, pattern, name, slot, next);
}

uint32_t ix_table_enter(const ix_table *shared, const uint64_t *names, uint32_t first, uint32_t count, uint32_t known,
                        uint32_t *fetched, uint32_t slot, ix_suspect *suspects, uint32_t *suspected, uint32_t room) {
    const ix_table table = *shared;
    ix_suspect *next = suspects + *suspected, *const last = suspects + room - IX_MAX_LINES * IX_PER_LINE;
    uint32_t done = 0, near = *fetched;
    for (; done < count; done++) {
        const uint32_t name = first + done, key = ix_key(names[name]);
        ix_fetch(&table, names, &near, known - name < IX_LINES_AHEAD ? known : name + IX_LINES_AHEAD, known);
        char *partition = ix_partition(&table, key);
        const uint16_t entries = ix_entries(partition);
        if (entries >= ix_limit(&table, partition) || next > last) break;
        next = ix_place(&table, partition, key, name, slot + done, next);
        const uint16_t more = (uint16_t)(entries + 1);
        memcpy(partition + IX_ENTRIES, &more, 2);
    }
    *fetched = near;
    *suspected = (uint32_t)(next - suspects);
    return done;
}
