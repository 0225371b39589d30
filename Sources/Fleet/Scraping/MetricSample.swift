// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration

/// One sample line after its name: `{label="value"} 1.5 1700000000`. Labels are kept as places in the line.
struct MetricSample {
    /// More labels than any engine writes.
    private static let maxLabels = 128

    let value: Double
    private var labels: [(name: Range<Int>, value: Range<Int>)] = []

    /// - Returns: nil where the line makes no sense.
    init?(_ line: Span<UInt8>, from nameEnd: Int) {
        var at = nameEnd
        var labels: [(name: Range<Int>, value: Range<Int>)] = []
        if at < line.count, line[at] == UInt8(ascii: "{") {
            guard let end = Self.readLabels(line, from: at + 1, into: &labels) else { return nil }
            at = end
        }
        while at < line.count, Self.isBlank(line[at]) { at += 1 }
        let start = at
        while at < line.count, !Self.isBlank(line[at]), line[at] != UInt8(ascii: "\r") { at += 1 }
        guard start < at, let value = Double(String(ascii: line, start..<at)) else { return nil }
        self.value = value
        self.labels = labels
    }

    func has(_ wanted: [MetricSelector.Label], in line: Span<UInt8>) -> Bool {
        wanted.allSatisfy { want in
            labels.contains { label in
                String(ascii: line, label.name) == want.name && text(label.value, of: line) == want.value
            }
        }
    }

    /// A label's value; empty where the sample has no such label.
    func text(inLabel name: String, of line: Span<UInt8>) -> String {
        for label in labels where String(ascii: line, label.name) == name { return text(label.value, of: line) }
        return ""
    }

    func number(inLabel name: String, of line: Span<UInt8>) -> Double? {
        for label in labels where String(ascii: line, label.name) == name {
            return Double(text(label.value, of: line))
        }
        return nil
    }

    /// A label's value without its escapes.
    private func text(_ range: Range<Int>, of line: Span<UInt8>) -> String {
        let raw = String(ascii: line, range)
        guard raw.contains("\\") else { return raw }
        var result = ""
        var isEscaped = false
        for character in raw.unicodeScalars {
            if isEscaped {
                result.unicodeScalars.append(character == "n" ? "\n" : character)
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else {
                result.unicodeScalars.append(character)
            }
        }
        return result
    }

    /// - Returns: the index after the closing brace.
    private static func readLabels(
        _ line: Span<UInt8>,
        from start: Int,
        into labels: inout [(name: Range<Int>, value: Range<Int>)]
    ) -> Int? {
        var at = start
        while at < line.count {
            while at < line.count, isBlank(line[at]) || line[at] == UInt8(ascii: ",") { at += 1 }
            guard at < line.count else { return nil }
            if line[at] == UInt8(ascii: "}") { return at + 1 }
            let nameStart = at
            while at < line.count, line[at] != UInt8(ascii: "=") { at += 1 }
            let name = nameStart..<at
            at += 1
            guard at < line.count, line[at] == UInt8(ascii: "\""), !name.isEmpty else { return nil }
            at += 1
            let valueStart = at
            while at < line.count, line[at] != UInt8(ascii: "\"") {
                at += line[at] == UInt8(ascii: "\\") ? 2 : 1
            }
            guard at < line.count, labels.count < maxLabels else { return nil }
            labels.append((name, valueStart..<at))
            at += 1
        }
        return nil
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t")
    }
}

extension String {
    /// Bytes that are not UTF-8 become replacement characters, which match nothing.
    fileprivate init(ascii line: Span<UInt8>, _ range: Range<Int>) {
        self = unsafe line.extracting(range).withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
    }
}
