// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Glibc

/// Memory of the C library, to be given back by `free`.
///
/// Swift's own raw allocations ask posix_memalign, whatever their alignment, which takes several times as long as malloc.
enum RawMemory {
    /// `size` bytes, aligned to 16. Ends the process where there are none, as Swift's allocations do.
    static func allocate(_ size: Int) -> UnsafeMutableRawPointer {
        guard let memory = unsafe malloc(max(size, 1)) else { preconditionFailure("out of memory") }
        return unsafe memory
    }
}
