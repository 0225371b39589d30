// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The median of the last residuals: a constant that neither outliers nor a burst can move far.
package struct OffsetMedian: Sendable, Hashable, Codable {
    private var residuals: [Double] = []
    private var next = 0

    package static let leastSamples = 20
    static let capacity = 65
    /// Seconds. A larger offset is queueing that was not seen, not overhead.
    static let range = -5.0...5.0

    package init() {}

    package var samples: Int { residuals.count }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let stored = try container.decode([Double].self, forKey: .residuals)
        guard stored.count <= OffsetMedian.capacity, stored.allSatisfy(OffsetMedian.range.contains) else {
            throw DecodingError.dataCorruptedError(
                forKey: .residuals,
                in: container,
                debugDescription: "at most \(OffsetMedian.capacity) residuals within \(OffsetMedian.range) s"
            )
        }
        residuals = stored
        next = min(max(try container.decode(Int.self, forKey: .next), 0), OffsetMedian.capacity - 1)
    }

    private enum CodingKeys: String, CodingKey { case residuals, next }

    package mutating func observe(_ residual: Double) {
        guard residual.isFinite else { return }
        let value = min(max(residual, OffsetMedian.range.lowerBound), OffsetMedian.range.upperBound)
        if residuals.count < OffsetMedian.capacity {
            residuals.append(value)
        } else {
            residuals[next % OffsetMedian.capacity] = value
            next = (next + 1) % OffsetMedian.capacity
        }
    }

    /// Zero until enough was seen.
    package var median: Double {
        guard residuals.count >= OffsetMedian.leastSamples else { return 0 }
        let sorted = residuals.sorted()
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }
}
