// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// How long to wait after failures in a row: doubling from the first to the longest, each drawn from its upper half, so that
/// pickers which lost the same server do not come back together.
package struct RetryPace: Sendable, Hashable {
    package var first: Seconds
    package var longest: Seconds
    private var failures = 0

    package init(first: Seconds, longest: Seconds) {
        self.first = first
        self.longest = longest
    }

    package mutating func succeeded() { failures = 0 }

    /// Seconds to wait after one more failure.
    package mutating func failed(using random: inout some RandomNumberGenerator) -> Double {
        // Beyond 16 doublings every wait is the longest.
        let whole = min(first.rawValue * Double(1 << min(failures, 16)), longest.rawValue)
        failures = min(failures + 1, 64)
        return whole * Double.random(in: 0.5...1, using: &random)
    }
}
