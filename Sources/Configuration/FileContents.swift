// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Glibc

/// Reads whole files of bounded size.
package enum FileContents {
    /// Why a file could not be read.
    package enum Failure: Error, Sendable, Hashable, CustomStringConvertible {
        case system(String)
        case tooLarge(limit: Int)
        case notUTF8

        package var description: String {
            switch self {
            case .system(let reason): "cannot be read: \(reason)"
            case .tooLarge(let limit): "is larger than \(limit) bytes"
            case .notUTF8: "is not UTF-8 text"
            }
        }
    }

    package static func text(path: String, limit: Int) throws(Failure) -> String {
        guard let text = String(validating: try bytes(path: path, limit: limit), as: UTF8.self) else { throw .notUTF8 }
        return text
    }

    /// Never reads more than `limit` bytes and one, whatever the path names: a device or a pipe may have no end.
    package static func bytes(path: String, limit: Int) throws(Failure) -> [UInt8] {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw .system(systemError()) }
        defer { close(file) }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 64 * 1024)
        while true {
            let count = unsafe piece.withUnsafeMutableBytes { unsafe read(file, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .system(systemError()) }
            guard count > 0 else { break }
            bytes.append(contentsOf: piece[..<count])
            guard bytes.count <= limit else { throw .tooLarge(limit: limit) }
        }
        return bytes
    }

    private static func systemError() -> String {
        let code = errno
        return unsafe strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)"
    }
}
