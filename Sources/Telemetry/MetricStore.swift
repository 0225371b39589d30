// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// All that is counted, as a value: events go in, the page comes out of it.
struct MetricStore: Sendable {
    /// What is remembered of a request between its events.
    private struct Flight {
        var arrivedAt: Instant
        var model: Int
        var streams: Bool
        var isInference: Bool
        var promptTokens: Int
        var serviceLevel: ServiceLevel
        var dispatch: Dispatch?
        var firstTokenAt: Instant?
    }

    private struct Dispatch {
        var prefillGroup: Int
        var decodeGroup: Int
        var predictedTTFT: Double
        var predictedTPOT: Double
    }

    /// The cells of one group of pods.
    struct GroupCells: Sendable {
        var ttftObserved = HistogramCells(bounds: Buckets.ttft)
        var ttftPredicted = HistogramCells(bounds: Buckets.ttft)
        var ttftRatio = HistogramCells(bounds: Buckets.ratio)
        var tpotObserved = HistogramCells(bounds: Buckets.tpot)
        var tpotPredicted = HistogramCells(bounds: Buckets.tpot)
        var tpotRatio = HistogramCells(bounds: Buckets.ratio)
        var requestDuration = HistogramCells(bounds: Buckets.duration)
        var dollars = 0.0
        var requestsInFlight = 0
        var prefillTokensInFlight = 0
    }

    struct ModelCells: Sendable {
        var outcomes = [UInt64](repeating: 0, count: MetricStore.outcomes.count)
        var promptTokens: UInt64 = 0
        var cachedTokens: UInt64 = 0
        var outputTokens: UInt64 = 0
    }

    static let outcomes = ["completed", "cancelled", "failed", "unreachable", "timed_out", "refused"]
    static let refusalReasons = ["no_endpoint", "unknown_model", "shed"]
    static let placementKinds = ["pair", "local", "both"]
    static let maximumModels = 200
    /// As many as the Router follows; beyond, a request is counted when it ends, without times.
    static let maximumFlights = 1 << 18

    private(set) var groups = PodGroups()
    private(set) var groupCells = [GroupCells()]
    private(set) var models = LabelTable(limit: maximumModels)
    private(set) var modelCells = [ModelCells()]
    private(set) var refusals = [UInt64](repeating: 0, count: refusalReasons.count)
    private(set) var placements = [UInt64](repeating: 0, count: placementKinds.count)
    private(set) var decisionDuration = HistogramCells(bounds: Buckets.decision)
    private(set) var ttftMet: UInt64 = 0
    private(set) var ttftMissed: UInt64 = 0
    private(set) var tpotMet: UInt64 = 0
    private(set) var tpotMissed: UInt64 = 0
    private(set) var predictedCachedTokens: UInt64 = 0
    private(set) var prefixHits: UInt64 = 0
    private(set) var prefixMisses: UInt64 = 0
    private(set) var tokensInFlight = 0
    private(set) var fleet = FleetSnapshot.empty
    private var flights: [RequestID: Flight] = [:]
    /// The model that was asked for last: most requests of a fleet are for one, and comparing costs less than hashing.
    private var lastModel = (name: "", number: 0)

    var requestsInFlight: Int { flights.count }

    mutating func fleetChanged(_ snapshot: FleetSnapshot) {
        groups.update(snapshot.endpoints)
        while groupCells.count < groups.groups.count { groupCells.append(GroupCells()) }
        // Only names that pods serve get a label of their own: what clients write is without bound.
        for status in snapshot.endpoints {
            for name in status.endpoint.servedModels ?? [] { _ = models.number(for: name) }
        }
        // Its number may be another one now.
        lastModel = ("", models.existing(""))
        while modelCells.count < models.names.count { modelCells.append(ModelCells()) }
        fleet = snapshot
    }

    mutating func arrived(_ request: InferenceRequest, at now: Instant) {
        guard flights.count < Self.maximumFlights else { return }
        flights[request.id] = Flight(
            arrivedAt: now,
            model: request.model.map { number(ofModel: $0) } ?? 0,
            streams: request.streams,
            isInference: request.isInference,
            promptTokens: request.promptTokens,
            serviceLevel: request.serviceLevel
        )
    }

    private mutating func number(ofModel name: String) -> Int {
        if lastModel.name != name { lastModel = (name, models.existing(name)) }
        return lastModel.number
    }

    mutating func decided(_ wall: Seconds) { decisionDuration.observe(wall.rawValue) }

    mutating func dispatched(_ id: RequestID, _ decision: Decision) {
        let kind =
            switch decision.placement {
            case .pair: 0
            case .local: 1
            case .both: 2
            }
        placements[kind] &+= 1
        guard var flight = flights[id], flight.dispatch == nil else { return }
        let prefill = groups.group(of: decision.placement.prefiller)
        let decode = groups.group(of: decision.placement.destination)
        flight.dispatch = Dispatch(
            prefillGroup: prefill,
            decodeGroup: decode,
            predictedTTFT: decision.predictedTTFT.rawValue,
            predictedTPOT: decision.predictedTPOT.rawValue
        )
        flights[id] = flight
        groupCells[decode].requestsInFlight += 1
        groupCells[prefill].prefillTokensInFlight += flight.promptTokens
        tokensInFlight += flight.promptTokens
        guard flight.isInference else { return }
        groupCells[prefill].ttftPredicted.observe(decision.predictedTTFT.rawValue)
        groupCells[decode].tpotPredicted.observe(decision.predictedTPOT.rawValue)
        let dollars = decision.predictedDollars.rawValue
        if dollars.isFinite, dollars > 0 { groupCells[decode].dollars += dollars }
        predictedCachedTokens &+= UInt64(clamping: decision.predictedCachedTokens)
        if decision.predictedCachedTokens > 0 { prefixHits &+= 1 } else { prefixMisses &+= 1 }
    }

    mutating func refused(_ id: RequestID, _ refusal: Refusal) {
        let reason =
            switch refusal {
            case .noEndpoint: 0
            case .unknownModel: 1
            case .shed: 2
            }
        refusals[reason] &+= 1
        let model = flights.removeValue(forKey: id)?.model ?? 0
        modelCells[model].outcomes[5] &+= 1
    }

    mutating func firstToken(_ id: RequestID, at now: Instant) {
        guard var flight = flights[id], flight.firstTokenAt == nil, let dispatch = flight.dispatch else { return }
        flight.firstTokenAt = now
        flights[id] = flight
        groupCells[dispatch.prefillGroup].prefillTokensInFlight -= flight.promptTokens
        // The first byte of an answer in one piece is its end: no time to first token.
        guard flight.streams, flight.isInference else { return }
        let ttft = (now - flight.arrivedAt).rawValue
        groupCells[dispatch.prefillGroup].ttftObserved.observe(ttft)
        if dispatch.predictedTTFT > 0 {
            groupCells[dispatch.prefillGroup].ttftRatio.observe(ttft / dispatch.predictedTTFT)
        }
        if let bound = flight.serviceLevel.ttft?.rawValue {
            if ttft <= bound { ttftMet &+= 1 } else { ttftMissed &+= 1 }
        }
    }

    mutating func ended(_ id: RequestID, _ outcome: Outcome, at now: Instant) {
        let flight = flights.removeValue(forKey: id)
        let model = flight?.model ?? 0
        modelCells[model].outcomes[Self.index(of: outcome.kind)] &+= 1
        modelCells[model].promptTokens &+= UInt64(clamping: outcome.promptTokens ?? 0)
        modelCells[model].cachedTokens &+= UInt64(clamping: outcome.cachedTokens ?? 0)
        modelCells[model].outputTokens &+= UInt64(clamping: outcome.outputTokens ?? 0)
        guard let flight, let dispatch = flight.dispatch else { return }
        groupCells[dispatch.decodeGroup].requestsInFlight -= 1
        tokensInFlight -= flight.promptTokens
        if flight.firstTokenAt == nil {
            groupCells[dispatch.prefillGroup].prefillTokensInFlight -= flight.promptTokens
        }
        guard outcome.kind == .completed, !outcome.isEarly, flight.isInference else { return }
        groupCells[dispatch.decodeGroup].requestDuration.observe((now - flight.arrivedAt).rawValue)
        guard flight.streams, let first = flight.firstTokenAt, let tokens = outcome.outputTokens, tokens > 1
        else { return }
        let tpot = (now - first).rawValue / Double(tokens - 1)
        groupCells[dispatch.decodeGroup].tpotObserved.observe(tpot)
        if dispatch.predictedTPOT > 0 {
            groupCells[dispatch.decodeGroup].tpotRatio.observe(tpot / dispatch.predictedTPOT)
        }
        if let bound = flight.serviceLevel.tpot?.rawValue {
            if tpot <= bound { tpotMet &+= 1 } else { tpotMissed &+= 1 }
        }
    }

    private static func index(of kind: Outcome.Kind) -> Int {
        switch kind {
        case .completed: 0
        case .cancelled: 1
        case .failed: 2
        case .unreachable: 3
        case .timedOut: 4
        }
    }
}
