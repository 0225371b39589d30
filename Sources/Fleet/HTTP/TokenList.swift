// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Finds the token ids in what an engine answers to /tokenize (`tokens`) or /render (`token_ids`).
///
/// A scanner instead of a JSON reader: a list of 100,000 ids is read in a fraction of a millisecond, and nothing else of
/// the answer is wanted.
package enum TokenList {
    /// More tokens than any context has.
    package static let maxTokens = 2_000_000

    /// - Returns: nil where there is no such list, or it is damaged.
    package static func read(_ json: [UInt8]) -> [UInt32]? {
        let span = json.span
        guard let start = place(ofListIn: span) else { return nil }
        var tokens: [UInt32] = []
        tokens.reserveCapacity(min((json.count - start) / 4, maxTokens))
        var value: UInt32?
        for index in start..<span.count {
            let byte = span[index]
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                let (scaled, isTooLarge) = (value ?? 0).multipliedReportingOverflow(by: 10)
                let (sum, overflows) = scaled.addingReportingOverflow(UInt32(byte - UInt8(ascii: "0")))
                guard !isTooLarge, !overflows else { return nil }
                value = sum
            case UInt8(ascii: ","), UInt8(ascii: "]"):
                if let known = value {
                    guard tokens.count < maxTokens else { return nil }
                    tokens.append(known)
                } else if byte == UInt8(ascii: ",") || !tokens.isEmpty {
                    return nil
                }
                value = nil
                if byte == UInt8(ascii: "]") { return tokens }
            case UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "\t"):
                continue
            default:
                return nil
            }
        }
        return nil
    }

    /// Behind the `[` of the first list of one of the names that is not within a string.
    private static func place(ofListIn span: Span<UInt8>) -> Int? {
        let names: [[UInt8]] = [Array("\"tokens\"".utf8), Array("\"token_ids\"".utf8)]
        var index = 0
        while index < span.count {
            guard span[index] == UInt8(ascii: "\"") else {
                index += 1
                continue
            }
            let end = endOfString(from: index, in: span)
            if let name = names.first(where: { $0.count == end - index }),
                (0..<name.count).allSatisfy({ span[index + $0] == name[$0] })
            {
                var behind = end
                while behind < span.count, span[behind] == UInt8(ascii: " ") || span[behind] == UInt8(ascii: ":") {
                    behind += 1
                }
                if behind < span.count, span[behind] == UInt8(ascii: "[") { return behind + 1 }
            }
            index = end
        }
        return nil
    }

    /// Behind the closing quote.
    private static func endOfString(from start: Int, in span: Span<UInt8>) -> Int {
        var index = start + 1
        while index < span.count {
            if span[index] == UInt8(ascii: "\\") {
                index += 2
            } else if span[index] == UInt8(ascii: "\"") {
                return index + 1
            } else {
                index += 1
            }
        }
        return span.count
    }
}
