// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A generator that is seeded once and then the Router's own: the same events and seed give the same draws.
///
/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
struct SeededDraws: RandomNumberGenerator, Sendable {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return mixed(state)
    }

    /// 53 random bits: a number that JSON readers keep exactly.
    mutating func draw() -> UInt64 { next() >> 11 }

    /// Uniform in [0, 1).
    mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }
}

/// The finaliser of SplitMix64: every bit of `x` reaches every bit of the result.
@inline(__always)
func mixed(_ x: UInt64) -> UInt64 {
    var z = x
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
}

/// A number in [0, 1) that a decision's draw gives to one pod, the same wherever the pod stands in an array.
@inline(__always)
func share(of draw: UInt64, for endpoint: EndpointID, salt: UInt64) -> Double {
    Double(mixed(draw &+ (UInt64(endpoint.rawValue) &+ 1) &* 0x9E37_79B9_7F4A_7C15 &+ salt) >> 11) * 0x1p-53
}
