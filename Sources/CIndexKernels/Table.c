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

static void ix_fetch(const ix_table *table, const uint64_t *names, uint32_t *fetched, uint32_t end, uint32_t known) {
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

// Passes the lines that a name's probing passes: whoever stands there under its key is a suspect.
static void ix_place(const ix_table *table, char *partition, uint32_t key, uint32_t name, uint32_t slot,
                     ix_suspect *suspects, uint32_t *suspected) {
    const uint32_t lines = (uint8_t)partition[IX_PAGES] * 4u;
    const uint16_t pattern = (uint16_t)((key & 0x1FFF) << 3);
    uint32_t index = ix_home(table, partition, key, lines);
    int is_placed = 0;
    for (uint32_t probes = 0; probes < lines; probes++) {
        char *line = ix_partition_line(table, partition, index);
        uint16_t *first = (uint16_t *)(void *)line, *low = (uint16_t *)(void *)(line + IX_LOW);
        uint8_t *middle = (uint8_t *)line + IX_MIDDLE;
        uint32_t used = (uint8_t)line[IX_COUNT], passed = (uint8_t)line[IX_PASSED];
        uint32_t matches = ix_line_matches(line, pattern) & ((1u << used) - 1);
        for (; matches != 0; matches &= matches - 1) {
            uint32_t at = (uint32_t)__builtin_ctz(matches);
            uint32_t other = (uint32_t)(first[at] & 7) << 24 | (uint32_t)middle[at] << 16 | low[at];
            suspects[(*suspected)++] = (ix_suspect){name, slot, other};
        }
        if (!is_placed) {
            if (used < IX_PER_LINE) {
                first[used] = (uint16_t)(pattern | slot >> 24);
                low[used] = (uint16_t)slot;
                middle[used] = (uint8_t)(slot >> 16);
                line[IX_COUNT] = (char)(used + 1);
                is_placed = 1;
            } else if (passed < 255) {
                // At 255 the counter stands still and no longer falls: probing goes on, at the cost of a line.
                line[IX_PASSED] = (char)(passed + 1);
            }
        }
        if (is_placed && passed == 0) return;
        index = index + 1 == lines ? 0 : index + 1;
    }
}

uint32_t ix_table_enter(const ix_table *table, const uint64_t *names, uint32_t first, uint32_t count, uint32_t known,
                        uint32_t *fetched, uint32_t slot, ix_suspect *suspects, uint32_t *suspected, uint32_t room) {
    uint32_t done = 0;
    for (; done < count; done++) {
        const uint32_t name = first + done, key = ix_key(names[name]);
        ix_fetch(table, names, fetched, known - name < IX_LINES_AHEAD ? known : name + IX_LINES_AHEAD, known);
        char *partition = ix_partition(table, key);
        const uint16_t entries = ix_entries(partition);
        if (entries >= ix_limit(table, partition) || room - *suspected < IX_MAX_LINES * IX_PER_LINE) break;
        ix_place(table, partition, key, name, slot + done, suspects, suspected);
        const uint16_t more = (uint16_t)(entries + 1);
        memcpy(partition + IX_ENTRIES, &more, 2);
    }
    return done;
}
