// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

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
    case notReady
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
        case .notReady: self = .notReady
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
    /// Some pod can pull a prefix from another.
    private(set) var anyPulls: Bool
    /// What the states say of decoding, worked out once for all requests that are priced at one moment.
    private(set) var paces: [DecodePace]
    /// Tokens of the prompt's start that each pod holds.
    package var held: [Int]
    /// What each would load from a shared store; empty where no store holds anything of the prompt.
    package var stored: [StoredPrefix?] = []
    /// What each must do for the request's LoRA adapter; empty where it asks for none.
    package var adapters: [AdapterNeed?] = []
    /// Pods that may compute the prompt for another.
    package var prefills: [Int]
    /// Pods that may decode, those of both roles included.
    package var decodes: [Int]
    package var links: KVLinks
    package var transferCosts = TransferCosts()
    package var surroundings: Surroundings

    package init(
        states: [PodState],
        held: [Int],
        prefills: [Int],
        decodes: [Int],
        links: KVLinks,
        surroundings: Surroundings = Surroundings()
    ) {
        self.states = states
        anyPulls = states.contains(where: \.canPull)
        paces = states.map(DecodePace.init)
        self.held = held
        self.prefills = prefills
        self.decodes = decodes
        self.links = links
        self.surroundings = surroundings
    }

    package static let empty = DecisionFrame(
        states: [],
        held: [],
        prefills: [],
        decodes: [],
        links: KVLinks(layouts: [], connectors: [])
    )

    /// What no transfer costs less than, those of pairs which were seen to take less included.
    var linkBound: KVLinks.Bound { links.bound(lowered: transferCosts.least) }

    /// Seconds that a pod needs for the request's adapter.
    @inline(__always)
    func adapterDelay(_ pod: Int) -> Double { adapters.isEmpty ? 0 : adapters[pod]?.delay ?? 0 }

    /// How KV gets from the one to the other.
    @inline(__always)
    func link(_ p: PrefillPart, _ d: DecodePart) -> KVLinks.Link {
        var link = links.link(p.kvClass, at: states[p.pod].place, d.kvClass, at: states[d.pod].place)
        if !transferCosts.isEmpty { link.learnedCost = transferCosts[states[p.pod].id, states[d.pod].id] }
        return link
    }

    /// The pod that a prefix would be pulled from: the one that holds most, the first of equals.
    func bestHolder(among holders: [Int]) -> Int? {
        var best: Int?
        for pod in holders where held[pod] > (best.map { held[$0] } ?? 0) { best = pod }
        return best
    }

    /// Brings every pod to what its ledger says now. Where a pod's seconds are not to be trusted, its queue's length
    /// is: prompts there times `meanWork`.
    mutating func refresh(_ ledgers: inout [PodLedger], window: Double, meanWork: Double, now: Double) {
        for pod in 0..<min(ledgers.count, states.count) {
            refresh(&ledgers[pod], at: pod, window: window, meanWork: meanWork, now: now)
        }
    }

    /// The same for one pod.
    @inline(__always)
    mutating func refresh(_ ledger: inout PodLedger, at pod: Int, window: Double, meanWork: Double, now: Double) {
        var view = ledger.look(window: window, now: now)
        if states[pod].calibration.isDegraded { view.backlog = Double(ledger.prompts.count) * meanWork }
        // A pod that nothing happened to decodes as before.
        if !states[pod].shows(view) {
            states[pod].take(view)
            paces[pod] = DecodePace(states[pod])
        }
        ledger.setPace(paces[pod].step, batch: paces[pod].batch, kvTokens: paces[pod].kvTokens)
    }

    /// Changes one pod's state.
    @inline(__always)
    package mutating func update(_ pod: Int, _ change: (inout PodState) -> Void) {
        change(&states[pod])
        if states[pod].canPull { anyPulls = true }
        paces[pod] = DecodePace(states[pod])
    }
}

extension PodState {
    @inline(__always)
    fileprivate func shows(_ view: LedgerView) -> Bool {
        batch == view.batch && kvTokens == view.kvTokens && outstandingTokens == view.outstandingTokens
            && backlog == view.backlog && localShare == view.localShare
    }

    @inline(__always)
    fileprivate mutating func take(_ view: LedgerView) {
        backlog = view.backlog
        batch = view.batch
        kvTokens = view.kvTokens
        outstandingTokens = view.outstandingTokens
        localShare = view.localShare
    }
}
