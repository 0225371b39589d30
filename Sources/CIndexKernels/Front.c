// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#include "CIndexKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static const uint64_t ix_lane = 0xFFFF0000;

// Shorter lists are not worth a loop over vectors.
enum { IX_MANY = 8 };

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

static uint64_t ix_mask(uint32_t matched) { return matched >= 32 ? ~0ull << 32 : ((1ull << matched) - 1) << 32; }

static uint64_t ix_wanted(uint64_t word) { return ~0ull << 32 | (word & ix_lane); }

#if defined(__x86_64__)
static int ix_has_avx2;
__attribute__((constructor)) static void ix_look_for_avx2(void) {
    __builtin_cpu_init();
    ix_has_avx2 = __builtin_cpu_supports("avx2");
}

// Four holders at once. Processors read aligned words within a vector whole; C knows nothing of that, hence not in C.
__attribute__((target("avx2"))) static __m256i ix_four_holders(const char *at) {
    __m256i words;
    __asm__("vmovdqu %1, %0" : "=x"(words) : "m"(*(const char(*)[32])at));
    return words;
}

// The lanes of a list, in steps of eight, and what all of them hold, as words.
__attribute__((target("avx2"))) static uint32_t ix_lanes_of_eights(uint16_t *lanes, const char *list, uint32_t count,
                                                                  uint64_t *held) {
    // The halves of a register were packed apart.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
    __m256i all = _mm256_set1_epi64x(-1);
    uint32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256i a = ix_four_holders(list + (size_t)i * 8), b = ix_four_holders(list + (size_t)i * 8 + 32);
        all = _mm256_and_si256(all, _mm256_and_si256(a, b));
        __m256i low = _mm256_castps_si256(
            _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), _MM_SHUFFLE(2, 0, 2, 0)));
        low = _mm256_srli_epi32(low, 16);
        low = _mm256_permutevar8x32_epi32(_mm256_packus_epi32(low, low), order);
        _mm_storeu_si128((__m128i *)(void *)(lanes + i), _mm256_castsi256_si128(low));
    }
    uint64_t words[4];
    _mm256_storeu_si256((__m256i *)(void *)words, all);
    *held = words[0] & words[1] & words[2] & words[3];
    return i;
}

__attribute__((target("avx2"))) static uint32_t ix_low_bits_of_sixteens(const uint64_t *hashes, uint32_t count,
                                                                       uint16_t *bits) {
    const __m256i low = _mm256_set1_epi64x(0xFFFF);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    uint32_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const __m256i *at = (const __m256i *)(const void *)(hashes + i);
        __m256i a = _mm256_and_si256(_mm256_loadu_si256(at), low);
        __m256i b = _mm256_and_si256(_mm256_loadu_si256(at + 1), low);
        __m256i c = _mm256_and_si256(_mm256_loadu_si256(at + 2), low);
        __m256i d = _mm256_and_si256(_mm256_loadu_si256(at + 3), low);
        // Pairs: a0a1 b0b1 c0c1 d0d1 | a2a3 b2b3 c2c3 d2d3.
        __m256i packed = _mm256_packus_epi32(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
        _mm256_storeu_si256((__m256i *)(void *)(bits + i), _mm256_permutevar8x32_epi32(packed, order));
    }
    return i;
}
#endif

void ix_low_bits(const uint64_t *hashes, uint32_t count, uint16_t *bits) {
    uint32_t i = 0;
#if defined(__x86_64__)
    if (ix_has_avx2) i = ix_low_bits_of_sixteens(hashes, count, bits);
#endif
    for (; i < count; i++) bits[i] = (uint16_t)hashes[i];
}

// The lanes of a list whose holders all hold `matched` blocks; 0, and nothing is meant by what was written, where one does not.
static int ix_front_whole(ix_front *front, const void *list, uint32_t count, uint32_t matched) {
    uint64_t held = ~0ull;
    uint32_t i = 0;
#if defined(__x86_64__)
    if (ix_has_avx2) i = ix_lanes_of_eights(front->lanes, (const char *)list, count, &held);
#endif
    for (; i < count; i++) {
        const uint64_t word = ix_holder(list, i);
        held &= word;
        front->lanes[i] = (uint16_t)(word >> 16);
    }
    const uint64_t all = ix_mask(matched);
    return (held & all) == all;
}

uint32_t ix_front_start(ix_front *front, const void *list, uint32_t count, const uint16_t *oldest, uint32_t matched) {
    front->first = 0;
    front->is_whole = 0;
    front->level = 0;
    // Mostly all hold all.
    if (oldest == NULL && matched > 0 && count >= IX_MANY && ix_front_whole(front, list, count, matched)) {
        front->found = count;
        front->end = count;
        front->is_whole = 1;
        return count;
    }
    uint32_t found = 0, whole = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t word = ix_holder(list, i);
        uint32_t run = ix_is_old(word, oldest) ? 0 : ix_leading_run(word, matched);
        front->lanes[found] = (uint16_t)(word >> 16);
        front->depths[found] = run;
        front->want[whole] = ix_wanted(word);
        front->place[whole] = (uint16_t)found;
        found += run > 0;
        whole += run > 0 && run == matched;
    }
    front->found = found;
    front->end = whole;
    return whole;
}

// Writes what a front that is whole leaves out.
static void ix_front_spread(ix_front *front) {
    uint64_t *want = front->want;
    uint16_t *place = front->place;
    const uint16_t *lanes = front->lanes;
    for (uint32_t i = 0; i < front->end; i++) want[i] = ~0ull << 32 | (uint64_t)lanes[i] << 16;
    for (uint32_t i = 0; i < front->end; i++) place[i] = (uint16_t)i;
    front->is_whole = 0;
}

void ix_front_settle(ix_front *front, uint32_t depth) {
    if (front->level == depth) return;
    uint32_t *depths = front->depths;
    if (front->is_whole) {
        for (uint32_t i = 0; i < front->end; i++) depths[i] = depth;
    } else {
        for (uint32_t i = front->first; i < front->end; i++) depths[front->place[i]] = depth;
    }
    front->level = depth;
}

#if defined(__x86_64__)
// As ix_run, in steps of eight: it may stop too early.
__attribute__((target("avx2"))) static uint32_t ix_run_of_eights(const uint64_t *want, const char *list, uint32_t count,
                                                                 uint64_t keep) {
    const __m256i kept = _mm256_set1_epi64x((long long)keep);
    uint32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const char *at = list + (size_t)i * 8;
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(want + i));
        __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(want + i + 4));
        a = _mm256_xor_si256(a, ix_four_holders(at));
        b = _mm256_xor_si256(b, ix_four_holders(at + 32));
        if (!_mm256_testz_si256(_mm256_or_si256(a, b), kept)) break;
    }
    return i;
}

#endif

// How many places in a row hold the lanes that are wanted, with all the blocks in `keep`.
static uint32_t ix_run(const uint64_t *want, const char *list, uint32_t count, uint64_t keep) {
    uint32_t i = 0;
#if defined(__x86_64__)
    if (ix_has_avx2 && count >= 8) i = ix_run_of_eights(want, list, count, keep);
#endif
    for (; i + 4 <= count; i += 4) {
        uint64_t differ = (want[i] ^ ix_holder(list, i)) | (want[i + 1] ^ ix_holder(list, i + 1)) |
                          (want[i + 2] ^ ix_holder(list, i + 2)) | (want[i + 3] ^ ix_holder(list, i + 3));
        if ((differ & keep) != 0) break;
    }
    for (; i < count; i++)
        if (((want[i] ^ ix_holder(list, i)) & keep) != 0) break;
    return i;
}

// First place from `i` on whose lane is not below that of `word`.
static uint32_t ix_front_seek(const ix_front *front, uint32_t i, uint64_t word) {
    const uint64_t wanted = ix_wanted(word);
    // No branch to mispredict: which half it is, is chance.
    for (uint32_t left = front->end - i; left > 0;) {
        uint32_t half = (left + 1) / 2;
        uint32_t below = front->want[i + half - 1] < wanted;
        i += half & -below;
        left -= half;
    }
    return i;
}

// The same in a front that is whole.
static uint32_t ix_lane_seek(const uint16_t *lanes, uint32_t i, uint32_t end, uint16_t wanted) {
    for (uint32_t left = end - i; left > 0;) {
        uint32_t half = (left + 1) / 2;
        uint32_t below = lanes[i + half - 1] < wanted;
        i += half & -below;
        left -= half;
    }
    return i;
}

// The few that go on where all the rest of a front that is whole end.
static uint32_t ix_front_pick(ix_front *front, const void *list, uint32_t count, const uint16_t *oldest, uint32_t depth,
                              uint32_t matched) {
    uint32_t i = 0, going = 0;
    for (uint32_t j = 0; j < count; j++) {
        const uint64_t word = ix_holder(list, j);
        const uint16_t lane = (uint16_t)(word >> 16);
        i = ix_lane_seek(front->lanes, i, front->end, lane);
        if (i == front->end) break;
        if (front->lanes[i] != lane) continue;
        uint32_t run = ix_is_old(word, oldest) ? 0 : ix_leading_run(word, matched);
        front->depths[i] = depth + run;
        if (run == matched) {
            front->want[going] = ix_wanted(word);
            front->place[going++] = (uint16_t)i;
        }
        i++;
    }
    front->is_whole = 0;
    return going;
}

// Most drop out: all end here, and the few that go on are looked for.
static uint32_t ix_front_thin(ix_front *front, const void *list, uint32_t count, const uint16_t *oldest, uint32_t depth,
                              uint32_t matched) {
    ix_front_settle(front, depth);
    uint32_t i = front->first, going = front->first;
    if (front->is_whole) {
        going = ix_front_pick(front, list, count, oldest, depth, matched);
        count = 0;
    }
    for (uint32_t j = 0; j < count; j++) {
        uint64_t word = ix_holder(list, j);
        i = ix_front_seek(front, i, word);
        if (i == front->end) break;
        if (front->want[i] != ix_wanted(word)) continue;
        uint32_t run = ix_is_old(word, oldest) ? 0 : ix_leading_run(word, matched);
        front->depths[front->place[i]] = depth + run;
        if (run == matched) {
            front->want[going] = front->want[i];
            front->place[going++] = front->place[i];
        }
        i++;
    }
    front->end = going;
    front->level = depth + matched;
    return going - front->first;
}

uint32_t ix_front_step(ix_front *front, const void *list, uint32_t count, const uint16_t *oldest, uint32_t depth,
                       uint32_t matched) {
    const uint64_t keep = ix_mask(matched) | ix_lane;
    if (count == 1 && front->end - front->first == 1 && !front->is_whole) {
        const uint64_t word = ix_holder(list, 0);
        if (((front->want[front->first] ^ word) & keep) == 0 && !ix_is_old(word, oldest)) return 1;
    }
    if (count < (front->end - front->first) / 4) return ix_front_thin(front, list, count, oldest, depth, matched);
    if (front->is_whole) ix_front_spread(front);
    uint64_t *want = front->want;
    uint16_t *place = front->place;
    const uint32_t end = front->end;
    uint32_t first = front->first, i = first, j = 0, kept = first;
    while (i < end) {
        if (oldest == NULL) {
            uint32_t most = end - i < count - j ? end - i : count - j;
            uint32_t run = ix_run(want + i, (const char *)list + (size_t)j * 8, most, keep);
            if (kept != i) {
                memmove(want + kept, want + i, run * sizeof *want);
                memmove(place + kept, place + i, run * sizeof *place);
            }
            i += run, j += run, kept += run;
            if (i == end) break;
        }
        const uint64_t wanted = want[i] & ix_lane;
        uint64_t word = 0;
        while (j < count && ((word = ix_holder(list, j)) & ix_lane) < wanted) j++;
        uint32_t run = 0;
        if (j < count && (word & ix_lane) == wanted) {
            run = ix_is_old(word, oldest) ? 0 : ix_leading_run(word, matched);
            j++;
        }
        if (run == matched) {
            want[kept] = want[i];
            place[kept++] = place[i];
        } else {
            front->depths[place[i]] = depth + run;
            // As long as nobody is kept, those behind need not move up.
            if (kept == first) first = kept = i + 1;
        }
        i++;
    }
    front->first = first;
    front->end = kept;
    return kept - first;
}
