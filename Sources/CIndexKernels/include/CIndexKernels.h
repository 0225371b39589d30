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

// XXH3-64 of each of `blocks` blocks of `bytes` bytes, one behind the other. 0, and nothing is hashed, where the processor has
// no wider vectors than the compiler takes for granted.
int ix_hash_blocks(const void *start, size_t bytes, size_t blocks, uint64_t *hashes);

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

// One partition of a line table on its way into other lines: entries as key << 32 | slot. Layouts as in LineTableMemory.
uint32_t ix_table_collect(char *const *pages, uint32_t lines, uint32_t high, uint64_t *entries);
void ix_table_place(char *const *pages, uint32_t lines, uint32_t home_bits, const uint64_t *entries, uint32_t count);

// The same where no entry is looked at but for its place. `copy` takes the lines as they are; of its entries those with a
// certain bit are counted, and those of `value` under `mask` placed in other lines. Masks are of the first 16-bit values.
void ix_table_lift(char *const *pages, uint32_t lines, void *copy);
uint32_t ix_table_count(const void *copy, uint32_t lines, uint16_t bit);
void ix_table_spread(const void *copy, uint32_t old, char *const *pages, uint32_t lines, uint32_t home_bits, uint16_t mask,
                     uint16_t value);

// The engine hash table as its writer sees it: layouts as in LineTableMemory.
typedef struct {
    // Partition numbers of the present depth.
    const char *directory;
    char *partitions;
    char *pages;
    uint32_t depth;
    uint32_t key_bits;
    // A partition takes pages * fill / 64 entries.
    uint32_t fill;
} ix_table;

// Somebody who stands under the key of the name number `name`, which has just been entered for `slot`.
typedef struct {
    uint32_t name;
    uint32_t slot;
    uint32_t other;
} ix_suspect;

// Enters names first ... first + count - 1 for consecutive slots, and brings near what the names behind them, up to `known`,
// will touch; `*fetched` are those near already. Those who stand under the same key are appended to `suspects`. Gives how
// many were entered: it stops where a partition is full, or `room` for suspects less than a partition's entries. One place
// more than `room` is written to.
uint32_t ix_table_enter(const ix_table *table, const uint64_t *names, uint32_t first, uint32_t count, uint32_t known,
                        uint32_t *fetched, uint32_t slot, ix_suspect *suspects, uint32_t *suspected, uint32_t room);

// Brings near what the names from `*fetched` on will touch, as far as it is worth it before `first` is entered.
void ix_table_approach(const ix_table *table, const uint64_t *names, uint32_t first, uint32_t known, uint32_t *fetched);

// Decodes MessagePack integers of 0 to 32 bits, as long as sixteen bytes are left; gives how many. `*at` ends behind the
// last.
uint32_t ix_decode_tokens(const uint8_t **at, const uint8_t *end, uint32_t *tokens, uint32_t count);

// The same for unsigned integers of 64 bits.
uint32_t ix_decode_hashes(const uint8_t **at, const uint8_t *end, uint64_t *hashes, uint32_t count);

// The low 16 bits of each hash.
void ix_low_bits(const uint64_t *hashes, uint32_t count, uint16_t *bits);

// The lanes that hold all of a chain so far, as a lookup walks down it: places `first` to `end` - 1, sorted by lane. `want`
// is the word of a holder of all 32 blocks, its age left out; `place` says where its depth is kept, which says `level` of all
// in front: it is written when a lane drops out.
typedef struct {
    uint64_t *want;
    uint16_t *place;
    // The answer: `found` lanes, and how many blocks each.
    uint16_t *lanes;
    uint32_t *depths;
    uint32_t found;
    uint32_t first;
    uint32_t end;
    uint32_t level;
    // All that were found are in front, and of the arrays only `lanes` is written: mostly the next chunk is held by one of
    // them, and the rest is never needed.
    uint32_t is_whole;
} ix_front;

// The first chunk of a chain: the lanes that hold its first block, and the front of those who hold all `matched`. Words older
// than `oldest[lane]` (ages wrap round) count for nothing; NULL: ages do not matter. Gives the number in front.
uint32_t ix_front_start(ix_front *front, const void *list, uint32_t count, const uint16_t *oldest, uint32_t matched);

// The next chunk: lanes of the front that do not hold all `matched` blocks behind `depth` drop out with what they hold.
// Gives the number that go on.
uint32_t ix_front_step(ix_front *front, const void *list, uint32_t count, const uint16_t *oldest, uint32_t depth,
                       uint32_t matched);

// Those in front hold `depth` blocks.
void ix_front_settle(ix_front *front, uint32_t depth);

#endif
