// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

// Inlined into the caller: a call through the library's symbol costs as much as hashing a block of 64 bytes. Inlining
// renames every function by macro, which Swift does not see through: hence the wrapper.
#define XXH_INLINE_ALL
#include <xxhash.h>

static inline __attribute__((always_inline)) unsigned long long xxh3_64(const void *start, size_t count) {
    return XXH3_64bits(start, count);
}

// Hashes `blocks` blocks of `bytes` bytes each, one behind the other. The usual sizes are told apart once, not per block.
static inline void xxh3_64_blocks(const void *start, size_t bytes, size_t blocks, uint64_t *hashes) {
    const char *at = (const char *)start;
    if (bytes == 64)
        for (size_t i = 0; i < blocks; i++) hashes[i] = XXH3_64bits(at + i * 64, 64);
    else if (bytes == 128)
        for (size_t i = 0; i < blocks; i++) hashes[i] = XXH3_64bits(at + i * 128, 128);
    else
        for (size_t i = 0; i < blocks; i++) hashes[i] = XXH3_64bits(at + i * bytes, bytes);
}
