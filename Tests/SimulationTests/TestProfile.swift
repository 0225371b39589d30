// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

@testable import Simulation

extension PodProfile {
    /// Round numbers, so that durations can be worked out by hand: a prompt of n tokens takes 10 ms + 0.1 ms·n, a decode
    /// step 10 ms + 1 ms per sequence + 1 µs per KV token, a mixed step 10 ms + 0.1 ms per token + 1 ms per sequence.
    static func round(
        capacity: Int = 100_000,
        prefillPerToken: Double = 1e-4,
        dollarsPerSecond: Double = 0.001,
        network: Double = 1e9
    ) -> PodProfile {
        PodProfile(
            prefill: PrefillCoefficients(
                knee: 0,
                base: 0.010,
                perTokenBelowKnee: 0,
                perTokenAboveKnee: prefillPerToken,
                perPair: 0,
                perContextToken: 0
            ),
            decode: DecodeCoefficients(
                knee: 0,
                base: 0.010,
                perSequenceBelowKnee: 0,
                perSequenceAboveKnee: 0.001,
                perKVToken: 1e-6
            ),
            mixed: StepCoefficients(
                knee: 0,
                base: 0.010,
                perTokenBelowKnee: 0,
                perTokenAboveKnee: prefillPerToken,
                perPair: 0,
                perSequence: 0.001,
                perKVToken: 0
            ),
            ttftOverhead: .zero,
            prefillError: 0.1,
            decodeError: 0.1,
            kvBytesPerToken: 1000,
            kvCapacityTokens: capacity,
            layers: 10,
            networkBytesPerSecond: network,
            memoryBytesPerSecond: 1e12,
            dollarsPerSecond: dollarsPerSecond,
            source: .fitted
        )
    }
}

/// Runs a server to its end, or to `t`.
extension ModelServer {
    mutating func run(to t: Double = 1e9) -> [ServerEvent] {
        var events: [ServerEvent] = []
        advance(to: Instant(t), into: &events)
        return events
    }

    mutating func submit(_ job: ServerJob, at t: Double) -> [ServerEvent] {
        var events: [ServerEvent] = []
        advance(to: Instant(t), into: &events)
        submit(job, at: Instant(t), into: &events)
        return events
    }
}

extension [ServerEvent] {
    func time(of kind: ServerEvent.Kind, job: UInt64) -> Double? {
        first { $0.job == job && $0.kind == kind }?.at.rawValue
    }
}

func isNear(_ a: Double?, _ b: Double, tolerance: Double = 1e-9) -> Bool {
    a.map { abs($0 - b) <= tolerance } ?? false
}
