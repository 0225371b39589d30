// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import Kubernetes

@Suite("JSON lines")
struct JSONLinesTests {
    static let text = Array("{\"a\":1}\n\n{\"b\":\"é\"}\r\n{\"c\":3".utf8)
    static let lines = [Array("{\"a\":1}".utf8), Array("{\"b\":\"é\"}\r".utf8)]

    @Test("The same lines come out, wherever the stream is cut in two", arguments: 0...text.count)
    func twoPieces(_ cut: Int) throws {
        var lines = JSONLines()
        let before = lines.take(Array(Self.text[..<cut]))
        let first = try #require(before)
        let after = lines.take(Array(Self.text[cut...]))
        let second = try #require(after)
        #expect(first + second == Self.lines)
        #expect(lines.isMidLine)
    }

    @Test("Byte by byte")
    func singleBytes() throws {
        var lines = JSONLines()
        var found: [[UInt8]] = []
        for byte in Self.text {
            let taken = lines.take([byte])
            found += try #require(taken)
        }
        #expect(found == Self.lines)
    }

    @Test("A line without an end is given up")
    func longLine() {
        var lines = JSONLines()
        let piece = [UInt8](repeating: UInt8(ascii: "x"), count: JSONLines.maxLine / 2)
        let taken = [lines.take(piece), lines.take(piece), lines.take([UInt8(ascii: "x")])]
        #expect(taken == [[], [], nil])
    }
}
