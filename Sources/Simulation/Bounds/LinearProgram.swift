// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Maximise c·x under A·x ≤ b, x ≥ 0, where b ≥ 0: doing nothing is allowed, so no first phase is needed.
///
/// The simplex method on a dense tableau (Dantzig, 1947): Dantzig's rule while the objective grows, Bland's rule (1977)
/// while it stands still, so that it cannot cycle. For some hundred rows, as the bounds have.
struct LinearProgram {
    private let count: Int
    private let objective: [Double]
    private var rows: [(coefficients: [Double], limit: Double)] = []

    private static let epsilon = 1e-9
    /// Far below a request or a millisecond, which limits are made of.
    private static let perturbation = 1e-8
    /// Pivots after which the search is given up: many times what a program of this size takes.
    private static let mostPivots = 50_000

    struct Solution: Equatable {
        var value: Double
        var x: [Double]
    }

    init(maximize objective: [Double]) {
        count = objective.count
        self.objective = objective
    }

    /// Adds Σ coefficient·x ≤ limit. Pairs name a variable each; limits below zero count as zero.
    mutating func add(_ pairs: [(variable: Int, coefficient: Double)], atMost limit: Double) {
        var row = [Double](repeating: 0, count: count)
        for pair in pairs { row[pair.variable] += pair.coefficient }
        // Limits that differ a little keep pivots from standing still where many would be equal (Charnes, 1952).
        let share = Double(rows.count &* 0x9E37 & 0xFFFF) / 65536
        rows.append((row, max(limit, 0) + Self.perturbation * (1 + share)))
    }

    /// - Returns: nil where the objective has no bound, or where rounding keeps the method from an end.
    func solved() -> Solution? {
        let width = count + rows.count + 1
        var tableau = rows.enumerated().map { index, row -> [Double] in
            var line = row.coefficients + [Double](repeating: 0, count: rows.count + 1)
            line[count + index] = 1
            line[width - 1] = row.limit
            return line
        }
        var reduced = objective.map { -$0 } + [Double](repeating: 0, count: rows.count + 1)
        var basis = rows.indices.map { count + $0 }
        var isStuck = false
        for _ in 0..<Self.mostPivots {
            guard let entering = Self.entering(reduced, width: width, byIndex: isStuck) else {
                return solution(tableau, basis, value: reduced[width - 1])
            }
            guard let leaving = Self.leaving(tableau, basis, entering: entering, width: width) else { return nil }
            let before = reduced[width - 1]
            Self.pivot(&tableau, &reduced, row: leaving, column: entering)
            basis[leaving] = entering
            isStuck = reduced[width - 1] <= before
        }
        return nil
    }

    private static func entering(_ reduced: [Double], width: Int, byIndex: Bool) -> Int? {
        var best: Int?
        var least = -epsilon
        for column in 0..<width - 1 where reduced[column] < least {
            best = column
            if byIndex { return best }
            least = reduced[column]
        }
        return best
    }

    private static func leaving(_ tableau: [[Double]], _ basis: [Int], entering: Int, width: Int) -> Int? {
        var best: Int?
        var least = Double.infinity
        for (row, line) in tableau.enumerated() where line[entering] > epsilon {
            let ratio = line[width - 1] / line[entering]
            if ratio < least || (ratio == least && best.map { basis[row] < basis[$0] } ?? true) {
                least = min(ratio, least)
                best = row
            }
        }
        return best
    }

    private static func pivot(_ tableau: inout [[Double]], _ reduced: inout [Double], row: Int, column: Int) {
        let factor = 1 / tableau[row][column]
        for index in tableau[row].indices { tableau[row][index] *= factor }
        let line = tableau[row]
        let used = line.indices.filter { line[$0] != 0 }
        for other in tableau.indices where other != row && tableau[other][column] != 0 {
            let share = tableau[other][column]
            for index in used { tableau[other][index] -= share * line[index] }
            tableau[other][column] = 0
        }
        let share = reduced[column]
        for index in used { reduced[index] -= share * line[index] }
        reduced[column] = 0
    }

    private func solution(_ tableau: [[Double]], _ basis: [Int], value: Double) -> Solution {
        var x = [Double](repeating: 0, count: count)
        for (row, variable) in basis.enumerated() where variable < count {
            x[variable] = tableau[row].last ?? 0
        }
        return Solution(value: value, x: x)
    }
}
