// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// What the Router believes about one endpoint now.
package struct EndpointSummary: Sendable, Hashable, Codable {
    package var id: EndpointID
    package var name: String
    /// Requests that use it in any part.
    package var inFlight: Int
    /// Prompt tokens sent to it and not known to be computed.
    package var pendingPromptTokens: Int
    /// Predicted seconds until a prompt sent now could start.
    package var backlog: Seconds
    /// Sequences that decode there or were sent there to decode, others' included as far as scrapes show them.
    package var batch: Double
    package var kvTokens: Double
    package var capacityTokens: Double
    /// Share of recent time that a decode pod spent on prompts of its own.
    package var localShare: Double
    package var calibration: PodCalibration
    /// Why it is left out for the time being.
    package var unavailable: Unavailability?
}

/// Whether the requests of one pool may wait in the queue.
package struct LateBinding: Sendable, Hashable, Codable {
    package var pool: String
    /// Wanted, and not switched off because its inputs cannot be trusted.
    package var isOn: Bool
}

/// What the Router holds now, for metrics and debug pages.
package struct RouterSummary: Sendable, Hashable, Codable {
    package var inFlight: Int
    package var tokensInFlight: Int
    package var queued: Int
    package var queuedBytes: Int
    /// Of the queued ones those with prompts too long for the time being.
    package var setAside: Int
    /// How long the oldest queued request has waited.
    package var longestWait: Seconds
    /// Of each pool with pods that answer.
    package var lateBinding: [LateBinding]
    /// Seconds of backlog below which a pod is given its next prompt.
    package var openBelow: Seconds
    /// Prompts per second, over the last half minute.
    package var arrivalRate: Double
    /// Dials of each priority class as they are now.
    package var classes: [PriorityClass]
    package var counts: RouterCounts
    /// In the order of ids.
    package var endpoints: [EndpointSummary]
}

extension Router {
    /// Looks at everything: some tens of nanoseconds per endpoint.
    package mutating func summary(at time: Instant) -> RouterSummary {
        if time.rawValue.isFinite { now = max(now, time) }
        settle()
        refreshAll()
        return RouterSummary(
            inFlight: inFlight.count,
            tokensInFlight: counts.tokensInFlight,
            queued: queue.count,
            queuedBytes: queue.bytes,
            setAside: queue.entries.count(where: triages.setAside),
            longestWait: queue.entries.map { now - Instant($0.arrivedAt) }.max() ?? .zero,
            lateBinding: monitors.pools.map { pool in
                let isWanted = (options.bindingByPool[pool] ?? options.binding) == .late
                return LateBinding(pool: pool, isOn: isWanted && monitors.trusts(pool: pool))
            },
            openBelow: Seconds(openBelow),
            arrivalRate: arrivals.perSecond(at: now.rawValue),
            classes: options.classes.map {
                PriorityClass(minimumPriority: $0.minimumPriority, dials: control.applied(to: $0.dials))
            },
            counts: counts,
            endpoints: fleet.endpoints.indices.map(endpointSummary)
        )
    }

    private func endpointSummary(_ index: Int) -> EndpointSummary {
        let status = fleet.endpoints[index]
        let state = frame.states[index]
        return EndpointSummary(
            id: status.endpoint.id,
            name: status.endpoint.name,
            inFlight: ledgers[index].inFlight,
            pendingPromptTokens: ledgers[index].promptTokens,
            backlog: Seconds(state.backlog),
            batch: state.batch,
            kvTokens: state.kvTokens,
            capacityTokens: state.capacityTokens,
            localShare: state.localShare,
            calibration: state.calibration,
            unavailable: status.unavailable ?? healths[index].cause(at: now)
        )
    }
}
