// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// How far predictions lie from what was measured.
package struct ErrorStatistics: Sendable, Hashable {
    private var errors: [Double] = []
    private var covered = 0

    package init() {}

    package var count: Int { errors.count }

    /// - Parameters:
    ///   - predicted: any unit, above zero.
    ///   - measured: the same unit, above zero.
    ///   - band: half of the stated band, relative to the prediction.
    package mutating func add(predicted: Double, measured: Double, band: Double) {
        guard predicted.isFinite, measured.isFinite, predicted > 0, measured > 0 else { return }
        errors.append(abs(predicted / measured - 1))
        if abs(measured / predicted - 1) <= band { covered += 1 }
    }

    package mutating func add(_ other: ErrorStatistics) {
        errors += other.errors
        covered += other.covered
    }

    /// Of the absolute relative errors; 0 where there is none.
    package var mean: Double { errors.isEmpty ? 0 : errors.reduce(0, +) / Double(errors.count) }
    package var median: Double { quantile(0.5) }

    package func quantile(_ share: Double) -> Double {
        guard !errors.isEmpty else { return 0 }
        return errors.sorted()[min(errors.count - 1, Int(Double(errors.count) * share))]
    }

    /// Share of measurements within the stated band.
    package var coverage: Double { errors.isEmpty ? 0 : Double(covered) / Double(errors.count) }
}
