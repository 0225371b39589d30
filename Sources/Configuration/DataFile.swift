// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CZlib
import Glibc

/// Reads data files of bounded size, plain or compressed by gzip (told by the first bytes, not by the name).
package enum DataFile {
    /// Why a file could not be read.
    package enum Failure: Error, Sendable, Hashable, CustomStringConvertible {
        case system(String)
        case tooLarge(limit: Int)
        case corrupt

        package var description: String {
            switch self {
            case .system(let reason): "cannot be read: \(reason)"
            case .tooLarge(let limit): "is larger than \(limit) bytes"
            case .corrupt: "is not a whole gzip file"
            }
        }
    }

    /// A day of traces of a busy cluster; ten times the largest public one.
    package static let standardLimit = 1 << 30

    /// The contents, decompressed. `limit` counts bytes after decompression.
    package static func bytes(path: String, limit: Int = standardLimit) throws(Failure) -> [UInt8] {
        let raw = try contents(path: path, limit: limit)
        guard raw.starts(with: [0x1F, 0x8B]) else { return raw }
        return try inflated(raw, limit: limit)
    }

    private static func contents(path: String, limit: Int) throws(Failure) -> [UInt8] {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw .system(unsafe String(cString: strerror(errno))) }
        defer { close(file) }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 1 << 18)
        while true {
            let count = unsafe piece.withUnsafeMutableBytes { unsafe read(file, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .system(unsafe String(cString: strerror(errno))) }
            guard count > 0 else { return bytes }
            bytes.append(contentsOf: piece[..<count])
            guard bytes.count <= limit else { throw .tooLarge(limit: limit) }
        }
    }

    /// All members of a gzip file, one after the other (RFC 1952, section 2.2).
    private static func inflated(_ raw: [UInt8], limit: Int) throws(Failure) -> [UInt8] {
        guard raw.count <= Int(UInt32.max) else { throw .tooLarge(limit: Int(UInt32.max)) }
        var raw = raw
        var stream = unsafe z_stream()
        // 15 bits of window, and 16 for a gzip header.
        let version = unsafe zlibVersion()
        guard unsafe inflateInit2_(&stream, 15 + 16, version, Int32(MemoryLayout<z_stream>.size)) == Z_OK
        else { throw .corrupt }
        defer { unsafe inflateEnd(&stream) }
        var result: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 1 << 18)
        var failure: Failure?
        unsafe raw.withUnsafeMutableBufferPointer { input in
            unsafe stream.next_in = input.baseAddress
            unsafe stream.avail_in = UInt32(input.count)
            while failure == nil {
                let status = unsafe piece.withUnsafeMutableBufferPointer { output -> Int32 in
                    unsafe stream.next_out = output.baseAddress
                    unsafe stream.avail_out = UInt32(output.count)
                    return unsafe inflate(&stream, Z_NO_FLUSH)
                }
                result.append(contentsOf: piece[..<(piece.count - Int(unsafe stream.avail_out))])
                if result.count > limit {
                    failure = .tooLarge(limit: limit)
                } else if status == Z_STREAM_END {
                    guard unsafe stream.avail_in > 0 else { return }
                    if unsafe inflateReset(&stream) != Z_OK { failure = .corrupt }
                } else if unsafe status != Z_OK || (stream.avail_in == 0 && stream.avail_out > 0) {
                    failure = .corrupt
                }
            }
        }
        if let failure { throw failure }
        return result
    }
}
