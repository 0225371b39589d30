// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// How long one engine is busy prefilling, by the knee-linear form with attention and context terms.
///
///     T_pre(n, p) = c0 + c1lo·min(n, h) + c1hi·max(n − h, 0) + c2·(n·p + n²/2) + c3·(n + p)
///
/// n = new tokens, p = cached prefix tokens. Fitted per (accelerator, model, TP, dtype): see `profiles/`.
package struct PrefillCoefficients: Sendable, Hashable, Codable {
    /// h: tokens at which the matrix multiplications turn compute bound.
    package var knee: Double
    /// c0: seconds of one pass, whatever its size: streaming the weights, launches.
    package var base: Double
    /// c1lo: seconds per new token below the knee.
    package var perTokenBelowKnee: Double
    /// c1hi: seconds per new token above the knee.
    package var perTokenAboveKnee: Double
    /// c2: seconds per (new token × context token) pair.
    package var perPair: Double
    /// c3: seconds per context token read.
    package var perContextToken: Double

    package init(
        knee: Double,
        base: Double,
        perTokenBelowKnee: Double,
        perTokenAboveKnee: Double,
        perPair: Double,
        perContextToken: Double
    ) {
        self.knee = knee
        self.base = base
        self.perTokenBelowKnee = perTokenBelowKnee
        self.perTokenAboveKnee = perTokenAboveKnee
        self.perPair = perPair
        self.perContextToken = perContextToken
    }

    /// - Complexity: O(1), no allocation.
    @inlinable @inline(__always)
    package func duration(newTokens: Int, cachedTokens: Int) -> Seconds {
        let n = Double(max(newTokens, 0))
        let p = Double(max(cachedTokens, 0))
        let linear = perTokenBelowKnee * min(n, knee) + perTokenAboveKnee * max(n - knee, 0)
        return Seconds(base + linear + perPair * (n * p + n * n / 2) + perContextToken * (n + p))
    }
}
