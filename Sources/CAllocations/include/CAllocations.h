// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#ifndef C_ALLOCATIONS_H
#define C_ALLOCATIONS_H

#include <stdint.h>

/// How often this thread has asked for heap memory. A program that links this library has its allocator's calls counted.
uint64_t allocations_of_thread(void);

#endif
