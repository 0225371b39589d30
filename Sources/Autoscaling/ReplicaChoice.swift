// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Turns a need, in pods and parts of pods, into a number of replicas that does not flap.
///
/// It rises at once when the need is above it by `riseBand`, and falls when the greatest need of a whole window is below
/// the next smaller number by `fallBand`. For one need only two neighbouring numbers are ever stable, so that replicas
/// of the picker with different pasts differ by one at most.
package struct ReplicaChoice: Sendable {
    /// In pods. Together below 1, or three numbers would be stable for one need.
    static let riseBand = 0.1
    static let fallBand = 0.4
    /// More replicas than any group has.
    static let limit = 10_000
    /// The window is kept in so many parts.
    private static let parts = 30

    package private(set) var replicas: Int
    private let window: Seconds
    /// The greatest need of each part of the window.
    private var peaks: [(part: Int, need: Double)] = []
    /// Nothing is taken away before.
    private let settledAt: Instant

    /// `replicas` are there now: a new picker does not take away what it has not watched for a window yet.
    package init(replicas: Int, window: Seconds, at now: Instant) {
        self.replicas = min(max(replicas, 0), Self.limit)
        self.window = max(window, Seconds(1))
        settledAt = now + window
    }

    /// `present` pods are there now: they come into sight one by one after a start.
    ///
    /// - Returns: the replicas to have. 0 only after a window in which nothing was needed at all.
    package mutating func decide(need: Double, present: Int, at now: Instant) -> Int {
        let need = need.isFinite ? min(max(need, 0), Double(Self.limit)) : 0
        let part = Int((now.rawValue / (window.rawValue / Double(Self.parts))).rounded(.down))
        if let last = peaks.indices.last, peaks[last].part == part {
            peaks[last].need = max(peaks[last].need, need)
        } else {
            peaks.append((part, need))
            peaks.removeAll { $0.part <= part - Self.parts }
        }
        let wanted = need > 0 ? max(Int((need - Self.riseBand).rounded(.up)), 1) : 0
        if now < settledAt { replicas = max(replicas, min(present, Self.limit)) }
        if wanted > replicas {
            replicas = wanted
        } else if now >= settledAt {
            let peak = peaks.reduce(0) { max($0, $1.need) }
            let enough = peak > 0 ? max(Int((peak + Self.fallBand).rounded(.up)), 1) : 0
            replicas = min(replicas, enough)
        }
        return replicas
    }
}
