// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Glibc

/// Tells when a file was replaced or written. Polled: works on every file system and through the symbolic links of
/// mounted config maps, which notifications of the kernel do not follow.
package struct FileWatch: Sendable {
    private struct Signature: Hashable {
        var inode: UInt64
        var size: Int64
        var seconds: Int
        var nanoseconds: Int
    }

    package let path: String
    private var last: Signature?

    /// What the file is now counts as known.
    package init(path: String) {
        self.path = path
        last = Self.signature(of: path)
    }

    /// True once after each change. A file that is gone is no change: it is being replaced.
    package mutating func hasChanged() -> Bool {
        guard let now = Self.signature(of: path), now != last else { return false }
        last = now
        return true
    }

    private static func signature(of path: String) -> Signature? {
        var info = stat()
        guard unsafe stat(path, &info) == 0 else { return nil }
        return Signature(
            inode: UInt64(info.st_ino),
            size: Int64(info.st_size),
            seconds: info.st_mtim.tv_sec,
            nanoseconds: info.st_mtim.tv_nsec
        )
    }
}
