// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A seeded stream of random draws (SplitMix64: Steele, Lea, Flood, OOPSLA 2014). Small enough to live by value in
/// each thing that draws, so that one thing's draws never depend on another's.
package struct RandomStream: RandomNumberGenerator, Sendable, Hashable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    /// A stream of its own for the `index`-th thing of a kind, so that adding things leaves the others' draws alone.
    package init(seed: UInt64, kind: UInt64, index: UInt64) {
        var mix = RandomStream(seed: seed &+ kind &* 0xD6E8_FEB8_6659_FD93)
        let a = mix.next()
        mix = RandomStream(seed: a ^ (index &* 0xA076_1D64_78BD_642F))
        state = mix.next()
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    package mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// Standard normal, by Box and Muller.
    package mutating func normal() -> Double {
        let radius = (-2 * log(1 - uniform())).squareRoot()
        return radius * cos(2 * Double.pi * uniform())
    }

    /// Log-normal with mean 1 and log-deviation `sigma`.
    package mutating func logNormal(sigma: Double) -> Double {
        sigma > 0 ? exp(sigma * normal() - sigma * sigma / 2) : 1
    }

    /// What a log-normal draw of mean 1 is multiplied by to have median 1.
    package static func medianScale(sigma: Double) -> Double { exp(sigma * sigma / 2) }

    /// Exponential with mean 1.
    package mutating func exponential() -> Double { -log(1 - uniform()) }
}
