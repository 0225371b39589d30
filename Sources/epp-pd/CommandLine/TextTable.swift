// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Columns that line up, for people. Text is set left, numbers right.
struct TextTable {
    enum Alignment { case left, right }

    private let alignments: [Alignment]
    private var rows: [[String]]

    init(_ columns: [(title: String, alignment: Alignment)]) {
        alignments = columns.map(\.alignment)
        rows = [columns.map(\.title)]
    }

    /// One row, one cell per column.
    mutating func add(_ cells: [String]) { rows.append(cells) }

    /// The table, without a newline at its end and without trailing spaces.
    func rendered(indent: Int = 0) -> String {
        let widths = alignments.indices.map { column in
            rows.map { $0.indices.contains(column) ? $0[column].count : 0 }.max() ?? 0
        }
        return rows.map { row in
            let cells = zip(row.indices, row).map { column, cell in
                let padding = String(repeating: " ", count: max(widths[column] - cell.count, 0))
                return alignments[column] == .left ? cell + padding : padding + cell
            }
            let line = String(repeating: " ", count: indent) + cells.joined(separator: "  ")
            return String(line.reversed().drop { $0 == " " }.reversed())
        }
        .joined(separator: "\n")
    }
}
