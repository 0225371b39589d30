// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Glibc

/// The chance that a decode pod's KV cache overflows while its batch runs, so that the engine preempts a request and
/// computes it again.
///
/// The sum of the remaining outputs is taken as normal: a batch is a few dozen independent requests.
package struct KVOverflow: Sendable, Hashable {
    /// KV tokens now, expected further tokens of the whole batch, and the variance of these.
    package var kvTokens: Double
    package var expectedGrowth: Double
    package var variance: Double
    package var capacity: Double

    package init(kvTokens: Double, expectedGrowth: Double, variance: Double, capacity: Double) {
        self.kvTokens = kvTokens
        self.expectedGrowth = expectedGrowth
        self.variance = variance
        self.capacity = capacity
    }

    /// P(more is needed than there is), 0…1.
    package var probability: Double {
        let slack = capacity - kvTokens - expectedGrowth
        guard slack.isFinite, variance.isFinite else { return 1 }
        let deviation = max(variance, 0).squareRoot()
        guard deviation > 0 else { return slack < 0 ? 1 : 0 }
        return 0.5 * erfc(slack / (deviation * 2.squareRoot()))
    }

    /// Expected seconds of recomputing a request of `context` tokens.
    package func recompute(profile: PodProfile, context: Int) -> Seconds {
        profile.prefill.duration(newTokens: context, cachedTokens: 0) * probability
    }
}
