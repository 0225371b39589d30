// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Foundation

/// Reads a text file line by line, however long it is.
final class LineReader {
    /// A longer line is no line of ours.
    static let longestLine = 64 << 20

    private let handle: FileHandle
    private var buffer = Data()
    private var isAtEnd = false
    /// Number of the line that `next` returned last, from 1.
    private(set) var number = 0

    /// - Parameter path: a file, or `-` for standard input.
    /// - Throws: exit code 2 after naming a file that cannot be read.
    init(path: String) throws {
        if path == "-" {
            handle = .standardInput
        } else if let handle = FileHandle(forReadingAtPath: path) {
            self.handle = handle
        } else {
            Console.error("\(path): cannot be read")
            throw ExitCode(2)
        }
    }

    /// The next line without its newline; nil at the end.
    func next() -> Data? {
        while true {
            if let end = buffer.firstIndex(of: 0x0A) {
                let line = buffer[buffer.startIndex..<end]
                buffer = Data(buffer[buffer.index(after: end)...])
                number += 1
                return Data(line)
            }
            guard !isAtEnd, buffer.count <= Self.longestLine else { break }
            let more = (try? handle.read(upToCount: 1 << 20)) ?? nil
            if let more, !more.isEmpty { buffer.append(more) } else { isAtEnd = true }
        }
        guard !buffer.isEmpty else { return nil }
        defer { buffer = Data() }
        number += 1
        return buffer
    }
}
