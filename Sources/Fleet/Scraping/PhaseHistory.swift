// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Configuration
internal import CostModel
package import Router

/// Turns an engine's cumulative histograms of prefill and decode time into their growth over some requests.
///
/// Scrapes come faster than requests end, and a request ends here a moment before or after it ends there: growth over
/// one or two requests could not be compared with the picker's own count of them. So it is told in portions.
package struct PhaseHistory: Sendable {
    /// Requests in a portion, of either phase: a miscount by one is then small.
    package static let portion = 8

    private var last: [EndpointID: Phases] = [:]

    private struct Phases {
        var prefill: EngineObservation.Phase
        var decode: EngineObservation.Phase
        var preemptions: Double
    }

    package init() {}

    /// - Returns: nil until a portion has ended since the last one, and where the counters are another process's.
    package mutating func growth(_ id: EndpointID, _ observation: EngineObservation) -> PhaseGrowth? {
        guard let prefill = observation.prefillTime, let decode = observation.decodeTime else { return nil }
        let current = Phases(prefill: prefill, decode: decode, preemptions: observation[.preemptions] ?? 0)
        guard let before = last[id], let prefills = Self.growth(before.prefill, prefill),
            let decodes = Self.growth(before.decode, decode)
        else {
            last[id] = current
            return nil
        }
        guard max(prefills.requests, decodes.requests) >= Self.portion else { return nil }
        last[id] = current
        return PhaseGrowth(
            prefillSeconds: Seconds(prefills.seconds),
            prefills: prefills.requests,
            decodeSeconds: Seconds(decodes.seconds),
            decodes: decodes.requests,
            hadPreemptions: current.preemptions > before.preemptions
        )
    }

    /// The endpoint left, or its server is a new one.
    package mutating func forget(_ id: EndpointID) { last[id] = nil }

    /// nil where a counter fell or is no number: it belongs to another process.
    private static func growth(
        _ before: EngineObservation.Phase,
        _ after: EngineObservation.Phase
    ) -> (seconds: Double, requests: Int)? {
        let seconds = after.seconds - before.seconds
        let requests = after.requests - before.requests
        guard seconds >= 0, seconds.isFinite, (0...Double(Int32.max)).contains(requests) else { return nil }
        return (seconds, Int(requests))
    }
}
