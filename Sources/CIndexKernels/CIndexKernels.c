// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#define _GNU_SOURCE
#include "CIndexKernels.h"

#include <sys/mman.h>

void *ix_reserve(size_t bytes) {
    void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) return NULL;
    // The index touches a part of what it reserves; huge pages would make the rest resident too.
    madvise(start, bytes, MADV_NOHUGEPAGE);
    return start;
}

void ix_release(void *start, size_t bytes) { munmap(start, bytes); }

void ix_discard(void *start, size_t bytes) { madvise(start, bytes, MADV_DONTNEED); }

static int ix_is_old(uint64_t word, const uint16_t *oldest) {
    if (oldest == NULL) return 0;
    uint16_t limit = __atomic_load_n(oldest + (uint16_t)(word >> 16), __ATOMIC_RELAXED);
    return (int16_t)((uint16_t)word - limit) < 0;
}

static uint32_t ix_leading_run(uint64_t word, uint32_t matched) {
    uint32_t open = ~(uint32_t)(word >> 32);
    uint32_t run = open == 0 ? 32 : (uint32_t)__builtin_ctz(open);
    return run < matched ? run : matched;
}

static uint64_t ix_holder(const void *list, uint32_t at) { return ix_word((const char *)list + (size_t)at * 8); }

static const uint64_t ix_gone = ~0ull;

uint32_t ix_front_start(ix_front *front, uint16_t *lanes, const void *list, uint32_t count, const uint16_t *oldest,
                        uint32_t matched) {
    uint64_t *want = front->want;
    uint16_t *place = front->place;
    uint32_t *depths = front->depths;
    uint32_t found = 0, whole = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t word = ix_holder(list, i);
        uint32_t run = ix_is_old(word, oldest) ? 0 : ix_leading_run(word, matched);
        lanes[found] = (uint16_t)(word >> 16);
        depths[found] = run;
        want[whole] = 0xFFFFFFFF0000ull | (uint16_t)(word >> 16);
        place[whole] = (uint16_t)found;
        found += run > 0;
        whole += run > 0 && run == matched;
    }
    front->count = whole;
    front->dropped = 0;
    return found;
}

// How many places in a row hold the lanes that are wanted, with all the blocks in `keep`.
static uint32_t ix_run(const uint64_t *want, const void *list, uint32_t count, uint64_t keep) {
    uint32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        uint64_t differ = (want[i] ^ ix_holder(list, i) >> 16) | (want[i + 1] ^ ix_holder(list, i + 1) >> 16) |
                          (want[i + 2] ^ ix_holder(list, i + 2) >> 16) | (want[i + 3] ^ ix_holder(list, i + 3) >> 16);
        if ((differ & keep) != 0) break;
    }
    for (; i < count; i++)
        if (((want[i] ^ ix_holder(list, i) >> 16) & keep) != 0) break;
    return i;
}

// Most drop out: all end here, and the few that go on are looked for again.
static uint32_t ix_front_thin(ix_front *front, const void *list, uint32_t count, const uint16_t *oldest, uint32_t depth,
                              uint32_t matched) {
    uint64_t *want = front->want;
    uint16_t *place = front->place;
    uint32_t kept = 0, going = 0, i = 0;
    for (uint32_t at = 0; at < front->count; at++) {
        if (want[at] == ix_gone) continue;
        front->depths[place[at]] = depth;
        want[kept] = want[at];
        place[kept++] = place[at];
    }
    for (uint32_t j = 0; j < count; j++) {
        uint64_t word = ix_holder(list, j);
        uint16_t lane = (uint16_t)(word >> 16);
        while (i < kept && (uint16_t)want[i] < lane) i++;
        if (i == kept || (uint16_t)want[i] != lane) continue;
        uint32_t run = ix_is_old(word, oldest) ? 0 : ix_leading_run(word, matched);
        front->depths[place[i]] = depth + run;
        if (run == matched) {
            want[going] = want[i];
            place[going++] = place[i];
        }
        i++;
    }
    front->count = going;
    front->dropped = 0;
    return going;
}

uint32_t ix_front_step(ix_front *front, const void *list, uint32_t count, const uint16_t *oldest, uint32_t depth,
                       uint32_t matched) {
    if (count < front->count / 4) return ix_front_thin(front, list, count, oldest, depth, matched);
    uint64_t *want = front->want;
    const uint64_t keep = (matched >= 32 ? 0xFFFFFFFFull : (1ull << matched) - 1) << 16 | 0xFFFF;
    uint32_t i = 0, j = 0;
    while (i < front->count) {
        if (oldest == NULL) {
            uint32_t most = front->count - i < count - j ? front->count - i : count - j;
            uint32_t run = ix_run(want + i, (const char *)list + (size_t)j * 8, most, keep);
            i += run;
            j += run;
            if (i == front->count) break;
        }
        uint16_t lane = (uint16_t)want[i];
        if (want[i] == ix_gone) {
            i++;
            continue;
        }
        uint64_t word = j < count ? ix_holder(list, j) : 0;
        if (j < count && (uint16_t)(word >> 16) < lane) {
            j++;
            continue;
        }
        uint32_t run = 0;
        if (j < count && (uint16_t)(word >> 16) == lane) {
            run = ix_is_old(word, oldest) ? 0 : ix_leading_run(word, matched);
            j++;
        }
        if (run < matched) {
            front->depths[front->place[i]] = depth + run;
            want[i] = ix_gone;
            front->dropped++;
        }
        i++;
    }
    // Each place that dropped out ends a run, which costs a misprediction in every chunk that follows.
    if (front->dropped > 2 + front->count / 32) {
        uint32_t kept = 0;
        for (i = 0; i < front->count; i++) {
            uint64_t each = want[i];
            want[kept] = each;
            front->place[kept] = front->place[i];
            kept += each != ix_gone;
        }
        front->count = kept;
        front->dropped = 0;
    }
    return front->count - front->dropped;
}

void ix_front_finish(ix_front *front, uint32_t depth) {
    for (uint32_t i = 0; i < front->count; i++)
        if (front->want[i] != ix_gone) front->depths[front->place[i]] = depth;
}

enum { IX_LOW = 24, IX_MIDDLE = 48, IX_COUNT = 60, IX_PER_LINE = 12, IX_MAX_LINES = 64 };

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
