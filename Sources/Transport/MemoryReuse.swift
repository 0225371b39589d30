// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CLinux

/// How the allocator treats what large bodies leave behind.
///
/// By default glibc gives the end of a heap back to the kernel as soon as 128 KiB are free there, and takes large pieces
/// from the kernel one by one. Each body of a megabyte then costs hundreds of page faults, which take longer than all
/// that is done with it (mallopt(3), "M_TRIM_THRESHOLD").
package enum MemoryReuse {
    /// Free bytes at the end of a heap that are kept: some bodies of a few megabytes.
    private static let keptBytes: CInt = 16 << 20
    /// Pieces from here on come from the kernel one by one: larger than nearly all bodies.
    private static let largePieceBytes: CInt = 8 << 20

    /// Sets it for the whole process. To be called before threads are started.
    package static func prepare() {
        // Fails for values out of range only, which these are not.
        mallopt(M_TRIM_THRESHOLD, keptBytes)
        mallopt(M_MMAP_THRESHOLD, largePieceBytes)
    }
}
