// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#include "CIndexKernels.h"

// XXH3 is the same number by whatever vectors it is computed: 32 bytes at a time take half of the instructions of 16.
#if defined(__x86_64__) && defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#define XXH_VECTOR 2 /* XXH_AVX2 */
#define XXH_INLINE_ALL
#include <xxhash.h>

static void ix_hash_blocks_avx2(const char *at, size_t bytes, size_t blocks, uint64_t *hashes) {
    // The usual size as a constant: its loops are unrolled.
    if (bytes == 256)
        for (size_t i = 0; i < blocks; i++) hashes[i] = XXH3_64bits(at + i * 256, 256);
    else
        for (size_t i = 0; i < blocks; i++) hashes[i] = XXH3_64bits(at + i * bytes, bytes);
}
#pragma clang attribute pop

static int ix_hash_has_avx2;
__attribute__((constructor)) static void ix_hash_look_for_avx2(void) {
    __builtin_cpu_init();
    ix_hash_has_avx2 = __builtin_cpu_supports("avx2");
}

int ix_hash_blocks(const void *start, size_t bytes, size_t blocks, uint64_t *hashes) {
    if (!ix_hash_has_avx2) return 0;
    ix_hash_blocks_avx2(start, bytes, blocks, hashes);
    return 1;
}
#else
int ix_hash_blocks(const void *start, size_t bytes, size_t blocks, uint64_t *hashes) {
    (void)start, (void)bytes, (void)blocks, (void)hashes;
    return 0;
}
#endif
