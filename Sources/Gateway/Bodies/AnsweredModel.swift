// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Puts the model that was asked for back in an answer's `"model"` members, where another one served it.
///
/// Works on the bytes as they pass, whatever their cuts: what may be the beginning of such a member is held until it is
/// decided. Within a JSON string quotes are escaped, so that no text of an answer is taken for a member.
struct AnsweredModel: Sendable {
    private enum Part {
        /// Matching `"model"`.
        case key
        case colon
        /// Matching the served model's name in quotes.
        case value
    }

    private static let key = Array("\"model\"".utf8)
    /// No JSON writer puts so many blanks around a colon.
    private static let mostHeld = 64
    private let served: [UInt8]
    private let asked: [UInt8]
    private var part = Part.key
    private var matched = 0
    /// What was taken of a member so far.
    private var held: [UInt8] = []
    /// Where the value begins in `held`.
    private var valueStart = 0

    init(served: String, asked: String) {
        self.served = Array(APIError.quoted(served).utf8)
        self.asked = Array(APIError.quoted(asked).utf8)
    }

    /// The bytes to send on in place of `bytes`.
    mutating func pass(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(held.count + bytes.count)
        for index in 0..<bytes.count { unsafe take(bytes[index], &result) }
        return result
    }

    /// What is still held: at the answer's end.
    mutating func finish() -> [UInt8] {
        defer { reset() }
        return held
    }

    private mutating func reset() {
        held.removeAll(keepingCapacity: true)
        part = .key
        matched = 0
    }

    private mutating func take(_ byte: UInt8, _ result: inout [UInt8]) {
        if held.isEmpty, byte != UInt8(ascii: "\"") { return result.append(byte) }
        switch part {
        case .key:
            guard byte == Self.key[matched] else { return giveUp(byte, &result) }
            held.append(byte)
            matched += 1
            if matched == Self.key.count { part = .colon }
        case .colon:
            guard byte == UInt8(ascii: ":") || mayHold(byte) else { return giveUp(byte, &result) }
            held.append(byte)
            guard byte == UInt8(ascii: ":") else { return }
            part = .value
            matched = 0
            valueStart = held.count
        case .value:
            if matched == 0, mayHold(byte) {
                held.append(byte)
                valueStart = held.count
                return
            }
            guard byte == served[matched] else { return giveUp(byte, &result) }
            held.append(byte)
            matched += 1
            guard matched == served.count else { return }
            result += held[..<valueStart]
            result += asked
            reset()
        }
    }

    /// No such member: what was held goes on, and the byte may begin another one.
    private mutating func giveUp(_ byte: UInt8, _ result: inout [UInt8]) {
        result += held
        reset()
        take(byte, &result)
    }

    private func mayHold(_ byte: UInt8) -> Bool { held.count < Self.mostHeld && Self.isBlank(byte) }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r")
            || byte == UInt8(ascii: "\t")
    }
}
