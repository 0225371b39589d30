// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

// Takes the places of glibc's allocation functions, as its manual allows ("Replacing malloc"), counts, and hands on to
// glibc's own. What is freed need not be counted.

#include "CAllocations.h"

#include <errno.h>
#include <stddef.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static __thread uint64_t count_of_thread;

uint64_t allocations_of_thread(void) { return count_of_thread; }

void *malloc(size_t size) {
    count_of_thread++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    count_of_thread++;
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
    count_of_thread++;
    return __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count_of_thread++;
    return __libc_memalign(alignment, size);
}

void *memalign(size_t alignment, size_t size) {
    count_of_thread++;
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    count_of_thread++;
    void *got = __libc_memalign(alignment, size);
    if (got == NULL) return ENOMEM;
    *memory = got;
    return 0;
}
