// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Least squares of relative errors with coefficients that cannot be negative.
///
/// Minimises Σ |1 − a·x / y| by reweighted squares and coordinate descent: few unknowns, few samples.
struct NonnegativeFit {
    private(set) var coefficients: [Double]
    /// Mean absolute relative error over the samples.
    private(set) var error: Double

    private static let reweightings = 12
    private static let sweeps = 60

    /// - Parameters:
    ///   - rows: one row of terms for each observation, all of one length.
    ///   - observed: above zero.
    init(_ rows: [[Double]], _ observed: [Double]) {
        let unknowns = rows.first?.count ?? 0
        let scaled = zip(rows, observed).map { row, y in row.map { $0 / y } }
        var x = [Double](repeating: 0, count: unknowns)
        var weights = [Double](repeating: 1, count: scaled.count)
        for _ in 0..<NonnegativeFit.reweightings {
            for _ in 0..<NonnegativeFit.sweeps {
                for j in 0..<unknowns {
                    var square = 0.0
                    var product = 0.0
                    for (row, weight) in zip(scaled, weights) {
                        var rest = 1.0
                        for i in 0..<unknowns where i != j { rest -= row[i] * x[i] }
                        square += weight * row[j] * row[j]
                        product += weight * row[j] * rest
                    }
                    x[j] = square > 0 ? max(product / square, 0) : 0
                }
            }
            weights = scaled.map { row in
                1 / max(abs(1 - zip(row, x).reduce(0) { $0 + $1.0 * $1.1 }), NonnegativeFit.leastResidual)
            }
        }
        coefficients = x
        let residuals = scaled.map { row in abs(1 - zip(row, x).reduce(0) { $0 + $1.0 * $1.1 }) }
        error = residuals.isEmpty ? 0 : residuals.reduce(0, +) / Double(residuals.count)
    }

    /// Smaller residuals count alike.
    private static let leastResidual = 0.01

    func predict(_ row: [Double]) -> Double { zip(row, coefficients).reduce(0) { $0 + $1.0 * $1.1 } }
}
