// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Reads the token usage of an answer as its chunks pass, whatever they cut in two: one JSON document, or server-sent
/// events with one JSON document each in a `data` line.
struct UsageReader {
    private enum Format {
        case undecided, document, events
    }

    /// Where in a line of events the last chunk ended.
    private enum Line {
        /// So many bytes of `data:` were seen.
        case field(matched: Int)
        case data, other
    }

    private static let fieldName: StaticString = "data:"

    private var format: Format
    private var line = Line.field(matched: 0)
    private var scanner = UsageScanner()

    /// What was reported up to now; nil where nothing was.
    var usage: TokenUsage? {
        guard var usage = scanner.usage == .none ? nil : scanner.usage else { return nil }
        // Anthropic counts tokens read from a cache apart from input_tokens, others within them.
        if let cached = usage.cachedTokens, let prompt = usage.promptTokens, cached > prompt {
            usage.promptTokens = prompt + cached
        }
        return usage
    }

    /// For an answer whose headers were not seen: the first byte tells.
    init() { format = .undecided }

    /// - Returns: nil for content that is neither JSON nor events, or is compressed.
    init?(_ head: ResponseHead) {
        guard !head.isEncoded else { return nil }
        if head.contentType.hasPrefix("text/event-stream") {
            format = .events
        } else if head.contentType.hasPrefix("application/json") {
            format = .document
        } else {
            return nil
        }
    }

    /// The next bytes of the answer.
    mutating func read(_ chunk: UnsafeRawBufferPointer) {
        if format == .undecided, let first = unsafe chunk.first {
            format = first == UInt8(ascii: "{") ? .document : .events
        }
        if format == .document { unsafe scanner.read(chunk) } else { unsafe readLines(chunk) }
    }

    private mutating func readLines(_ chunk: UnsafeRawBufferPointer) {
        var index = 0
        while index < chunk.count {
            if case .field(matched: 0) = line, let next = unsafe endOfSilentLine(in: chunk, from: index) {
                index = next
                continue
            }
            switch line {
            case .field(let matched):
                let byte = unsafe chunk[index]
                index += 1
                if isNewline(byte) {
                    line = .field(matched: 0)
                } else if unsafe byte != Self.fieldName.utf8Start[matched] {
                    line = .other
                } else if matched + 1 == Self.fieldName.utf8CodeUnitCount {
                    line = .data
                    scanner.restart()
                } else {
                    line = .field(matched: matched + 1)
                }
            case .data, .other:
                let end = unsafe chunk.firstIndex(of: UInt8(ascii: "\n"), or: UInt8(ascii: "\r"), from: index)
                if case .data = line { unsafe scanner.read(UnsafeRawBufferPointer(rebasing: chunk[index..<end])) }
                index = end
                if index < chunk.count {
                    line = .field(matched: 0)
                    index += 1
                }
            }
        }
    }

    /// Where the next line begins, if the one at `start` lies in the chunk whole and does not name the usage: most do not, and
    /// need no other look.
    private func endOfSilentLine(in chunk: UnsafeRawBufferPointer, from start: Int) -> Int? {
        let end = unsafe chunk.firstIndex(of: UInt8(ascii: "\n"), or: UInt8(ascii: "\r"), from: start)
        guard end < chunk.count, unsafe !chunk.holdsUsage(start..<end) else { return nil }
        return end + 1
    }

    private func isNewline(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") }
}
