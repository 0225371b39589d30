// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Cuts a stream of bytes into lines, wherever the network cut it: a watch sends one JSON document a line.
struct JSONLines: Sendable {
    /// An object of etcd has at most 1.5 MiB, which escapes can double.
    static let maxLine = 4 << 20

    private var rest: [UInt8] = []

    /// True while the last line has not ended.
    var isMidLine: Bool { !rest.isEmpty }

    /// The lines that `bytes` completes, without their ends; empty ones are left out.
    ///
    /// - Returns: nil once a line is too long: the stream is of no use any more.
    mutating func take(_ bytes: [UInt8]) -> [[UInt8]]? {
        var lines: [[UInt8]] = []
        var start = bytes.startIndex
        while let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) {
            guard rest.count + (end - start) <= Self.maxLine else { return nil }
            rest.append(contentsOf: bytes[start..<end])
            if rest.contains(where: { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\r") }) { lines.append(rest) }
            rest.removeAll(keepingCapacity: true)
            start = end + 1
        }
        guard rest.count + (bytes.endIndex - start) <= Self.maxLine else { return nil }
        rest.append(contentsOf: bytes[start...])
        return lines
    }
}
