// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

// Inlined into the caller: a call through the library's symbol costs as much as hashing a block of 64 bytes. Inlining
// renames every function by macro, which Swift does not see through: hence the wrapper.
#define XXH_INLINE_ALL
#include <xxhash.h>

static inline unsigned long long xxh3_64(const void *start, size_t count) { return XXH3_64bits(start, count); }
