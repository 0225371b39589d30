// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

// The few inner loops of the prefix index that Swift cannot say: vector compares that end in a bit mask, prefetches, and
// reserved address space. What a reader may see while the writer changes it is read by relaxed atomic words.

#ifndef EPP_PD_INDEX_KERNELS_H
#define EPP_PD_INDEX_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define IX_INLINE static inline __attribute__((always_inline))

// Address space of `bytes`, zero when first touched, not counted against commit limits. NULL where the system refuses.
void *ix_reserve(size_t bytes);
void ix_release(void *start, size_t bytes);
// Gives whole pages back to the system; they read as zero afterwards.
void ix_discard(void *start, size_t bytes);

IX_INLINE void ix_prefetch(const void *address) { __builtin_prefetch(address, 0, 3); }

IX_INLINE uint64_t ix_word(const void *address) {
    return __atomic_load_n((const uint64_t *)address, __ATOMIC_RELAXED);
}

// How many of the first `count` 16-bit values are equal. `shared` is 8-byte aligned and may be written meanwhile;
// both sides are readable up to the next multiple of 8 values.
IX_INLINE uint32_t ix_equal_run16(const void *shared, const uint16_t *mine, uint32_t count) {
    for (uint32_t at = 0; at < count; at += 8) {
        const char *word = (const char *)shared + at * 2;
#if defined(__SSE2__)
        __m128i a = _mm_set_epi64x((long long)ix_word(word + 8), (long long)ix_word(word));
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(mine + at));
        uint32_t equal = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi16(a, b));
        if (equal != 0xFFFF) {
            uint32_t run = at + (uint32_t)__builtin_ctz(~equal) / 2;
            return run < count ? run : count;
        }
#else
        for (uint32_t half = 0; half < 8; half += 4) {
            uint64_t b;
            memcpy(&b, mine + at + half, 8);
            uint64_t differ = ix_word(word + half * 2) ^ b;
            if (differ != 0) {
                uint32_t run = at + half + (uint32_t)__builtin_ctzll(differ) / 16;
                return run < count ? run : count;
            }
        }
#endif
    }
    return count;
}

// The same for the writer, who reads what only it writes: any alignment, never beyond `count`.
IX_INLINE uint32_t ix_equal_run16_own(const void *a, const uint16_t *b, uint32_t count) {
    const char *left = (const char *)a;
    uint32_t at = 0;
    for (; at + 4 <= count; at += 4) {
        uint64_t x, y;
        memcpy(&x, left + at * 2, 8);
        memcpy(&y, b + at, 8);
        if (x != y) return at + (uint32_t)__builtin_ctzll(x ^ y) / 16;
    }
    for (; at < count; at++) {
        uint16_t x;
        memcpy(&x, left + at * 2, 2);
        if (x != b[at]) return at;
    }
    return count;
}

IX_INLINE uint32_t ix_equal_run8(const uint8_t *a, const uint8_t *b, uint32_t count) {
    uint32_t at = 0;
    for (; at + 8 <= count; at += 8) {
        uint64_t x, y;
        memcpy(&x, a + at, 8);
        memcpy(&y, b + at, 8);
        if (x != y) return at + (uint32_t)__builtin_ctzll(x ^ y) / 8;
    }
    for (; at < count; at++)
        if (a[at] != b[at]) return at;
    return count;
}

// Bit i = entry i of a line has these 13 high bits. A line starts with twelve 16-bit values.
IX_INLINE uint32_t ix_line_matches(const void *line, uint16_t pattern) {
    const char *at = (const char *)line;
#if defined(__SSE2__)
    const __m128i high = _mm_set1_epi16((short)0xFFF8);
    const __m128i wanted = _mm_set1_epi16((short)pattern);
    __m128i a = _mm_set_epi64x((long long)ix_word(at + 8), (long long)ix_word(at));
    __m128i b = _mm_cvtsi64_si128((long long)ix_word(at + 16));
    __m128i x = _mm_cmpeq_epi16(_mm_and_si128(a, high), wanted);
    __m128i y = _mm_cmpeq_epi16(_mm_and_si128(b, high), wanted);
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(x, y)) & 0xFFF;
#else
    uint32_t matches = 0;
    for (uint32_t part = 0; part < 3; part++) {
        uint64_t word = ix_word(at + part * 8);
        for (uint32_t i = 0; i < 4; i++)
            matches |= (uint32_t)((uint16_t)((word >> (16 * i)) & 0xFFF8) == pattern) << (part * 4 + i);
    }
    return matches;
#endif
}

// Holder words are mask << 32 | lane << 16 | age.

// The intersection of all masks where both lists name the same lanes with the same masks; else 0.
IX_INLINE uint32_t ix_same_holders(const void *list, const void *other, uint32_t count) {
    uint64_t differ = 0, common = ~0ull;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t word = ix_word((const char *)list + (size_t)i * 8);
        differ |= word ^ ix_word((const char *)other + (size_t)i * 8);
        common &= word;
    }
    return (differ >> 16) == 0 ? (uint32_t)(common >> 32) : 0;
}

// Lanes whose depth is `from` advance by the leading run of their mask, at most `matched`. Gives the number of lanes that
// advanced by all of it. Words older than `oldest[lane]` (ages wrap round) count for nothing; NULL: ages do not matter.
IX_INLINE uint32_t ix_advance(const void *list, uint32_t count, uint32_t *depths, const uint16_t *oldest, uint32_t from,
                              uint32_t matched) {
    uint32_t whole = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t word = ix_word((const char *)list + (size_t)i * 8);
        uint16_t lane = (uint16_t)(word >> 16);
        uint32_t open = ~(uint32_t)(word >> 32);
        if (oldest != NULL) {
            uint16_t limit = __atomic_load_n(oldest + lane, __ATOMIC_RELAXED);
            if ((int16_t)((uint16_t)word - limit) < 0) open = ~0u;
        }
        uint32_t run = open == 0 ? 32 : (uint32_t)__builtin_ctz(open);
        run = run < matched ? run : matched;
        uint32_t old = depths[lane];
        uint32_t held = old == from;
        depths[lane] = old + (held ? run : 0);
        whole += held & (run == matched);
    }
    return whole;
}

// Lanes of the list whose depth is `from` advance by `by`.
IX_INLINE void ix_advance_all(const void *list, uint32_t count, uint32_t *depths, uint32_t from, uint32_t by) {
    for (uint32_t i = 0; i < count; i++) {
        uint16_t lane = (uint16_t)(ix_word((const char *)list + (size_t)i * 8) >> 16);
        depths[lane] += depths[lane] == from ? by : 0;
    }
}

#endif
