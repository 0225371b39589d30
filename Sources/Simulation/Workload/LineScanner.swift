// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Walks the lines of a text and the numbers in them, without copies.
struct LineScanner {
    private let bytes: [UInt8]
    private var position = 0
    private(set) var number = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// The next line's bytes without its end, nil after the last.
    mutating func next() -> ArraySlice<UInt8>? {
        guard position < bytes.count else { return nil }
        let start = position
        while position < bytes.count, bytes[position] != UInt8(ascii: "\n") { position += 1 }
        var end = position
        position += 1
        number += 1
        if end > start, bytes[end - 1] == UInt8(ascii: "\r") { end -= 1 }
        return bytes[start..<end]
    }
}

/// Reads plain JSON and CSV numbers from a line. Every read fails on anything unexpected.
struct NumberReader {
    private let bytes: ArraySlice<UInt8>
    private(set) var position: Int

    init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        position = bytes.startIndex
    }

    var isAtEnd: Bool { position >= bytes.endIndex }

    mutating func skipBlanks() {
        while position < bytes.endIndex, bytes[position] == 0x20 || bytes[position] == 0x09 { position += 1 }
    }

    mutating func take(_ character: UInt8) -> Bool {
        skipBlanks()
        guard position < bytes.endIndex, bytes[position] == character else { return false }
        position += 1
        return true
    }

    /// A string without escapes.
    mutating func string() -> ArraySlice<UInt8>? {
        guard take(UInt8(ascii: "\"")) else { return nil }
        let start = position
        while position < bytes.endIndex, bytes[position] != UInt8(ascii: "\"") {
            guard bytes[position] != UInt8(ascii: "\\") else { return nil }
            position += 1
        }
        guard position < bytes.endIndex else { return nil }
        position += 1
        return bytes[start..<position - 1]
    }

    /// A finite number that is not negative.
    mutating func number() -> Double? {
        skipBlanks()
        let start = position
        let allowed: (UInt8) -> Bool = {
            ($0 >= 0x30 && $0 <= 0x39) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "e")
                || $0 == UInt8(ascii: "E") || $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "-")
        }
        while position < bytes.endIndex, allowed(bytes[position]) { position += 1 }
        guard start < position, position - start <= 32 else { return nil }
        guard let value = Double(String(decoding: bytes[start..<position], as: UTF8.self)) else { return nil }
        return value.isFinite && value >= 0 ? value : nil
    }

    /// Seconds since 1970 of `2023-11-16 18:15:46.6805900`, with `T` in the middle or a UTC mark at the end or not. Reads
    /// nothing where no such date begins.
    mutating func date() -> Double? {
        skipBlanks()
        let start = position
        guard let year = digits(4), next("-"), let month = digits(2), next("-"), let day = digits(2),
            (1...12).contains(month), (1...31).contains(day), next(" ") || next("T"),
            let hour = digits(2), next(":"), let minute = digits(2), next(":"), let second = digits(2),
            hour < 24, minute < 60, second <= 60
        else {
            position = start
            return nil
        }
        var fraction = 0.0
        if next(".") {
            var unit = 0.1
            while let digit = digits(1) {
                fraction += Double(digit) * unit
                unit /= 10
            }
        }
        if !next("Z"), next("+") {
            guard digits(2) == 0, next(":"), digits(2) == 0 else {
                position = start
                return nil
            }
        }
        // Days of the civil calendar, the year beginning in March (Fliegel and Van Flandern, CACM 11:10, 1968).
        let (y, m) = month > 2 ? (year, month - 3) : (year - 1, month + 9)
        let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 719_469
        return Double(((days * 24 + hour) * 60 + minute) * 60 + second) + fraction
    }

    private mutating func next(_ character: Unicode.Scalar) -> Bool {
        guard position < bytes.endIndex, bytes[position] == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    /// A number of exactly so many digits.
    private mutating func digits(_ count: Int) -> Int? {
        guard bytes.endIndex - position >= count else { return nil }
        var value = 0
        for byte in bytes[position..<position + count] {
            guard byte >= 0x30, byte <= 0x39 else { return nil }
            value = value * 10 + Int(byte - 0x30)
        }
        position += count
        return value
    }

    /// A whole number up to `limit`.
    mutating func count(limit: Int) -> Int? {
        guard let value = number(), value == value.rounded(), value <= Double(limit) else { return nil }
        return Int(value)
    }
}
