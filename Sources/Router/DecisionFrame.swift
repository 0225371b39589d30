// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Why an endpoint, or a candidate made of endpoints, cannot take a request.
package enum Ineligibility: String, Sendable, Hashable, Codable {
    /// Its role has no part in this request.
    case role
    case otherPool
    case modelNotServed
    case notInSubset
    /// Configuration allows other accelerators only.
    case acceleratorNotAllowed
    /// Configuration names the pod as excluded.
    case excluded
    case unreachable
    case refusesConnections
    case failsPrefills
    case draining
    /// The pods' KV caches cannot be exchanged.
    case kvIncompatible
    /// Its decodes would leave their TPOT bound.
    case tpotGuard
    /// Dearer than configuration allows for the request.
    case overPrice

    init(_ cause: Unavailability) {
        switch cause {
        case .unreachable: self = .unreachable
        case .refusesConnections: self = .refusesConnections
        case .failsPrefills: self = .failsPrefills
        case .draining: self = .draining
        }
    }
}

/// One way to serve a request, with its cost, or with the reason why not.
package struct Candidate: Sendable, Hashable, Codable {
    package var placement: Placement
    package var pullFrom: EndpointID?
    /// Prompt tokens taken as cached at the prefiller, a pulled prefix included.
    package var cachedTokens: Int
    package var terms: CostTerms
    /// Total, raised by at most the tie band as the draw said: what candidates are compared by.
    package var drawnTotal: Double
    package var ineligible: Ineligibility?
}

/// The pods that one decision may use, and their states. Indices into `states` everywhere.
package struct DecisionFrame: Sendable {
    /// Sorted by endpoint id.
    package private(set) var states: [PodState]
    /// What the states say of decoding, worked out once for all requests that are priced at one moment.
    private(set) var paces: [DecodePace]
    /// Tokens of the prompt's start that each pod holds.
    package var held: [Int]
    /// Pods that may compute the prompt for another.
    package var prefills: [Int]
    /// Pods that may decode, those of both roles included.
    package var decodes: [Int]
    package var links: KVLinks

    package init(states: [PodState], held: [Int], prefills: [Int], decodes: [Int], links: KVLinks) {
        self.states = states
        paces = states.map(DecodePace.init)
        self.held = held
        self.prefills = prefills
        self.decodes = decodes
        self.links = links
    }

    package static let empty = DecisionFrame(
        states: [],
        held: [],
        prefills: [],
        decodes: [],
        links: KVLinks(layouts: [], connectors: [])
    )

    /// The pod that a prefix would be pulled from: the one that holds most, the first of equals.
    func bestHolder(among holders: [Int]) -> Int? {
        var best: Int?
        for pod in holders where held[pod] > (best.map { held[$0] } ?? 0) { best = pod }
        return best
    }

    @inline(__always)
    mutating func write(_ view: LedgerView, at pod: Int) {
        // In place and once: each access to an array's element checks who else holds the array.
        paces[pod] = Self.take(view, &states[pod])
    }

    @inline(__always)
    private static func take(_ view: LedgerView, _ state: inout PodState) -> DecodePace {
        state.backlog = view.backlog
        state.batch = view.batch
        state.kvTokens = view.kvTokens
        state.outstandingTokens = view.outstandingTokens
        state.localShare = view.localShare
        return DecodePace(state)
    }

    /// Changes one pod's state.
    @inline(__always)
    package mutating func update(_ pod: Int, _ change: (inout PodState) -> Void) {
        change(&states[pod])
        paces[pod] = DecodePace(states[pod])
    }

    /// Changes what decoding does not depend on.
    @inline(__always)
    mutating func setArrivals(_ pod: Int, rate: Double) { states[pod].arrivalRate = rate }

    @inline(__always)
    mutating func setAhead(_ pod: Int, _ seconds: Double) { states[pod].ahead = seconds }
}
