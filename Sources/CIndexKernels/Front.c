// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#include "CIndexKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static const uint64_t ix_lane = 0xFFFF0000;

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

// Copies four holders of all the blocks in `all`; 0, and nothing is meant by what was copied, where one of them is not.
static int ix_copy_four(uint64_t *want, uint16_t *lanes, const void *list, uint32_t i, uint64_t all) {
    const uint64_t a = ix_holder(list, i), b = ix_holder(list, i + 1);
    const uint64_t c = ix_holder(list, i + 2), d = ix_holder(list, i + 3);
    if ((a & b & c & d & all) != all) return 0;
#if defined(__SSE2__)
    const __m128i kept = _mm_set1_epi64x((long long)ix_lane), any = _mm_set1_epi64x((long long)(~0ull << 32));
    const __m128i x = _mm_set_epi64x((long long)b, (long long)a), y = _mm_set_epi64x((long long)d, (long long)c);
    _mm_storeu_si128((__m128i *)(void *)(want + i), _mm_or_si128(_mm_and_si128(x, kept), any));
    _mm_storeu_si128((__m128i *)(void *)(want + i + 2), _mm_or_si128(_mm_and_si128(y, kept), any));
    __m128i low = _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(x), _mm_castsi128_ps(y), _MM_SHUFFLE(2, 0, 2, 0)));
    low = _mm_srai_epi32(low, 16);
    _mm_storel_epi64((__m128i *)(void *)(lanes + i), _mm_packs_epi32(low, low));
#else
    const uint64_t words[4] = {a, b, c, d};
    for (uint32_t k = 0; k < 4; k++) {
        want[i + k] = ~0ull << 32 | (words[k] & ix_lane);
        lanes[i + k] = (uint16_t)(words[k] >> 16);
    }
#endif
    return 1;
}

static uint64_t ix_mask(uint32_t matched) { return matched >= 32 ? ~0ull << 32 : ((1ull << matched) - 1) << 32; }

static uint64_t ix_wanted(uint64_t word) { return ~0ull << 32 | (word & ix_lane); }

uint32_t ix_front_start(ix_front *front, const void *list, uint32_t count, const uint16_t *oldest, uint32_t matched) {
    uint64_t *want = front->want;
    uint16_t *place = front->place, *lanes = front->lanes;
    uint32_t *depths = front->depths;
    uint32_t i = 0;
    if (oldest == NULL) {
        // Mostly all hold all.
        const uint64_t all = ix_mask(matched);
        while (i + 4 <= count && ix_copy_four(want, lanes, list, i, all)) i += 4;
        for (uint32_t k = 0; k < i; k++) depths[k] = matched;
        for (uint32_t k = 0; k < i; k++) place[k] = (uint16_t)k;
    }
    uint32_t found = i, whole = i;
    for (; i < count; i++) {
        uint64_t word = ix_holder(list, i);
        uint32_t run = ix_is_old(word, oldest) ? 0 : ix_leading_run(word, matched);
        lanes[found] = (uint16_t)(word >> 16);
        depths[found] = run;
        want[whole] = ix_wanted(word);
        place[whole] = (uint16_t)found;
        found += run > 0;
        whole += run > 0 && run == matched;
    }
    front->found = found;
    front->first = 0;
    front->end = whole;
    front->level = matched;
    return whole;
}

void ix_front_settle(ix_front *front, uint32_t depth) {
    if (front->level == depth) return;
    for (uint32_t i = front->first; i < front->end; i++) front->depths[front->place[i]] = depth;
    front->level = depth;
}

#if defined(__x86_64__)
// Four holders at once. Processors read aligned words within a vector whole; C knows nothing of that, hence not in C.
__attribute__((target("avx2"))) static __m256i ix_four_holders(const char *at) {
    __m256i words;
    __asm__("vmovdqu %1, %0" : "=x"(words) : "m"(*(const char(*)[32])at));
    return words;
}

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

static int ix_has_avx2;
__attribute__((constructor)) static void ix_look_for_avx2(void) {
    __builtin_cpu_init();
    ix_has_avx2 = __builtin_cpu_supports("avx2");
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

// Most drop out: all end here, and the few that go on are looked for.
static uint32_t ix_front_thin(ix_front *front, const void *list, uint32_t count, const uint16_t *oldest, uint32_t depth,
                              uint32_t matched) {
    ix_front_settle(front, depth);
    uint32_t i = front->first, going = front->first;
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
    if (count < (front->end - front->first) / 4) return ix_front_thin(front, list, count, oldest, depth, matched);
    uint64_t *want = front->want;
    uint16_t *place = front->place;
    const uint64_t keep = ix_mask(matched) | ix_lane;
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
