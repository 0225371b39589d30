// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Token counts as an answer reports them; nil where it does not.
struct TokenUsage: Sendable, Hashable {
    var promptTokens: Int?
    var cachedTokens: Int?
    var outputTokens: Int?

    static let none = TokenUsage()
}

/// Finds the token usage in one JSON answer that arrives in pieces of any size. Keeps a few bytes of state, no text.
///
/// Looks for `usage` in the outermost object, or in its members `response` (OpenAI's Responses events) and `message`
/// (Anthropic's events); everything else is skipped by its brackets and quotes alone. Of several values the last one
/// counts. It does not validate: of an answer that is no JSON, it finds nothing or something, and never fails.
struct UsageScanner {
    /// The object that the scanner stands in. All others are skipped whole.
    private enum Place {
        case root, wrapper, usage, details
    }

    private enum Field {
        case other, wrapper, usage, details
        case promptTokens, outputTokens, cachedTokens
    }

    private enum State {
        case start, key, inKey, keyEscape, colon, value, string, stringEscape, number
        case skip, skipString, skipEscape, done
    }

    /// The longest name that is looked for, and one more to tell longer ones.
    private static let keyLimit = 24
    /// No model has a context of so many tokens: a larger number is none.
    private static let tokenLimit = 1 << 40

    private(set) var usage = TokenUsage.none
    private var state = State.start
    private var place = Place.root
    private var usageIsInWrapper = false
    private var field = Field.other
    private var skipDepth = 0
    private var number = 0
    private var numberIsNatural = false
    private var key = InlineArray<24, UInt8>(repeating: 0)
    private var keyCount = 0

    /// True once the document has ended: what follows says nothing.
    var isDone: Bool { state == .done }

    /// Goes to the start of another document, and keeps what was found.
    mutating func restart() {
        state = .start
        place = .root
        field = .other
    }

    /// The next bytes of the document.
    mutating func read(_ bytes: UnsafeRawBufferPointer) {
        var index = 0
        while index < bytes.count {
            switch state {
            case .string, .skipString, .inKey:
                index = unsafe readText(bytes, from: index)
            case .done:
                return
            default:
                if step(unsafe bytes[index]) { index += 1 }
            }
        }
    }

    /// Reads on to the end of a string, or to a backslash in it.
    private mutating func readText(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int {
        let end = unsafe bytes.firstIndex(of: quote, or: backslash, from: start)
        if state == .inKey {
            for index in start..<end where keyCount < Self.keyLimit {
                key[keyCount] = unsafe bytes[index]
                keyCount += 1
            }
        }
        guard end < bytes.count else { return end }
        let isQuote = unsafe bytes[end] == quote
        switch state {
        case .inKey:
            state = isQuote ? .colon : .keyEscape
            if isQuote { field = namedField() } else { keyCount = Self.keyLimit }
        case .skipString: state = isQuote ? .skip : .skipEscape
        default: state = isQuote ? .key : .stringEscape
        }
        return end + 1
    }

    /// Takes one byte outside of text.
    ///
    /// - Returns: false where the byte is to be looked at again.
    private mutating func step(_ byte: UInt8) -> Bool {
        switch state {
        case .start:
            if byte == openBrace { state = .key } else if !isSpace(byte) { state = .done }
        case .key:
            // Commas, and the letters of true, false and null, pass here too.
            if byte == quote {
                state = .inKey
                keyCount = 0
            } else if byte == closeBrace {
                leave()
            }
        case .keyEscape: state = .inKey
        case .stringEscape: state = .string
        case .skipEscape: state = .skipString
        case .colon:
            if byte == UInt8(ascii: ":") { state = .value } else if !isSpace(byte) { state = .done }
        case .value:
            if !isSpace(byte) { beginValue(byte) }
        case .number:
            return readDigit(byte)
        case .skip:
            if byte == quote {
                state = .skipString
            } else if byte == openBrace || byte == openBracket {
                skipDepth &+= 1
            } else if byte == closeBrace || byte == closeBracket {
                skipDepth -= 1
                if skipDepth == 0 { state = .key }
            }
        case .inKey, .string, .skipString, .done:
            break
        }
        return true
    }

    private mutating func beginValue(_ byte: UInt8) {
        switch byte {
        case quote:
            state = .string
        case openBrace where enter():
            state = .key
        case openBrace, openBracket:
            state = .skip
            skipDepth = 1
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            state = .number
            number = Int(byte - UInt8(ascii: "0"))
            numberIsNatural = true
        case closeBrace:
            leave()
        default:
            state = .key
        }
    }

    /// Steps into the object that the last key named, if it is one to look into.
    private mutating func enter() -> Bool {
        switch (place, field) {
        case (.root, .wrapper): place = .wrapper
        case (.root, .usage), (.wrapper, .usage):
            usageIsInWrapper = place == .wrapper
            place = .usage
        case (.usage, .details): place = .details
        default: return false
        }
        return true
    }

    private mutating func leave() {
        state = .key
        switch place {
        case .root: state = .done
        case .wrapper: place = .root
        case .usage: place = usageIsInWrapper ? .wrapper : .root
        case .details: place = .usage
        }
    }

    private mutating func readDigit(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            if number < Self.tokenLimit { number = number * 10 + Int(byte - UInt8(ascii: "0")) }
            return true
        case UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"), UInt8(ascii: "+"), UInt8(ascii: "-"):
            numberIsNatural = false
            return true
        default:
            state = .key
            guard numberIsNatural, number < Self.tokenLimit else { return false }
            switch field {
            case .promptTokens: usage.promptTokens = number
            case .outputTokens: usage.outputTokens = number
            case .cachedTokens: usage.cachedTokens = number
            default: break
            }
            return false
        }
    }

    private func namedField() -> Field {
        switch place {
        case .root: isKey("usage") ? .usage : isKey("response") || isKey("message") ? .wrapper : .other
        case .wrapper: isKey("usage") ? .usage : .other
        case .usage:
            if isKey("prompt_tokens") || isKey("input_tokens") {
                .promptTokens
            } else if isKey("completion_tokens") || isKey("output_tokens") {
                .outputTokens
            } else if isKey("prompt_tokens_details") || isKey("input_tokens_details") {
                .details
            } else {
                isKey("cache_read_input_tokens") ? .cachedTokens : .other
            }
        case .details: isKey("cached_tokens") ? .cachedTokens : .other
        }
    }

    private func isKey(_ name: StaticString) -> Bool {
        guard name.utf8CodeUnitCount == keyCount else { return false }
        let start = unsafe name.utf8Start
        for index in 0..<keyCount where unsafe start[index] != key[index] { return false }
        return true
    }

    private func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
}

private let quote = UInt8(ascii: "\"")
private let backslash = UInt8(ascii: "\\")
private let openBrace = UInt8(ascii: "{")
private let closeBrace = UInt8(ascii: "}")
private let openBracket = UInt8(ascii: "[")
private let closeBracket = UInt8(ascii: "]")
