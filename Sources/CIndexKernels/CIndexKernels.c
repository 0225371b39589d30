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
