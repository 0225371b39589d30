// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A table of comma-separated values with a header line (RFC 4180): fields may be quoted, quotes double within.
///
/// Holds the file's bytes and where each field lies: a row costs no allocation until one asks for a field's text.
package struct CSVTable: Sendable {
    package let header: [String]
    private let bytes: [UInt8]
    private var fields: [Range<Int>] = []
    private var rows: [(first: Int, count: Int, line: Int)] = []
    private let columns: [String: Int]

    package init(bytes: [UInt8]) {
        self.bytes = bytes
        var scanner = Scanner(bytes: bytes)
        // A byte-order mark, as spreadsheets write it.
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { scanner.position = 3 }
        var head: [Range<Int>] = []
        scanner.row(&head)
        let names = head.map { CSVTable.text(bytes[$0]) }
        header = names
        columns = Dictionary(names.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        while !scanner.isAtEnd {
            let line = scanner.line
            let first = fields.count
            scanner.row(&fields)
            let count = fields.count - first
            // An empty line is no row.
            if count == 1, fields[first].isEmpty {
                fields.removeLast()
            } else {
                rows.append((first, count, line))
            }
        }
    }

    package var count: Int { rows.count }

    package func column(_ name: String) -> Int? { columns[name] }

    /// Counted from 1, the header's included.
    package func line(of row: Int) -> Int { rows[row].line }

    /// True where the row has a field for every column, and no more.
    package func isWhole(_ row: Int) -> Bool { rows[row].count == header.count }

    /// The text of a field; empty where the row is too short or there is no such column.
    package func text(_ row: Int, _ column: Int?) -> String {
        guard let column, column < rows[row].count else { return "" }
        return CSVTable.text(bytes[fields[rows[row].first + column]])
    }

    package func text(_ row: Int, _ name: String) -> String { text(row, columns[name]) }

    /// A finite number; nil where the field is empty or something else.
    package func number(_ row: Int, _ column: Int?) -> Double? {
        guard let value = Double(text(row, column)), value.isFinite else { return nil }
        return value
    }

    package func number(_ row: Int, _ name: String) -> Double? { number(row, columns[name]) }

    /// A row's bytes as they stand in the file, to be passed through.
    package func raw(_ row: Int) -> ArraySlice<UInt8> {
        let (first, count, _) = rows[row]
        guard count > 0 else { return [] }
        return bytes[fields[first].lowerBound..<fields[first + count - 1].upperBound]
    }

    private static func text(_ field: ArraySlice<UInt8>) -> String {
        let quote = UInt8(ascii: "\"")
        guard field.count >= 2, field.first == quote, field.last == quote else {
            return String(decoding: field, as: UTF8.self)
        }
        var plain: [UInt8] = []
        var wasQuote = false
        for byte in field.dropFirst().dropLast() {
            if byte == quote, !wasQuote {
                wasQuote = true
                continue
            }
            wasQuote = false
            plain.append(byte)
        }
        return String(decoding: plain, as: UTF8.self)
    }

    private struct Scanner {
        let bytes: [UInt8]
        var position = 0
        var line = 1

        var isAtEnd: Bool { position >= bytes.count }

        /// The fields of one row; stands after its line end.
        mutating func row(_ fields: inout [Range<Int>]) {
            var start = position
            var isQuoted = false
            while position < bytes.count {
                let byte = bytes[position]
                if byte == UInt8(ascii: "\"") {
                    isQuoted.toggle()
                } else if byte == UInt8(ascii: "\n") {
                    line += 1
                    if !isQuoted {
                        let end =
                            position > start && bytes[position - 1] == UInt8(ascii: "\r") ? position - 1 : position
                        fields.append(start..<end)
                        position += 1
                        return
                    }
                } else if byte == UInt8(ascii: ","), !isQuoted {
                    fields.append(start..<position)
                    start = position + 1
                }
                position += 1
            }
            fields.append(start..<position)
        }
    }
}
