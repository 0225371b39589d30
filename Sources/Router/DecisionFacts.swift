// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// What a decision knows of one pod now: facts of its profile and the ledger's view, all numbers. Trivial on purpose:
/// the search walks arrays of these.
package struct PodState: Sendable, Hashable, Codable {
    package var id: EndpointID
    package var role: Role
    package var canPull: Bool
    /// Both-role pods take part in pairs only where a KV connector is known: a plain engine would ignore the pair.
    package var canPair: Bool
    /// Index into the KV layouts of the decision.
    package var kvClass: Int
    /// nil = nobody says where it stands.
    package var place: PodPlace?
    package var profile: PodProfile
    package var calibration: PodCalibration
    /// Tokens whose KV fits: as the engine reported, else as the profile says.
    package var capacityTokens: Double
    /// Predicted seconds until a prompt sent now could start.
    package var backlog: Double
    /// Sequences that decode here or were sent here to decode, own and others'.
    package var batch: Double
    /// KV tokens that they hold.
    package var kvTokens: Double
    /// Output tokens that they are still expected to produce.
    package var outstandingTokens: Double
    /// Share of recent time spent on prompts computed by this decode pod itself, 0…1.
    package var localShare: Double

    package init(
        id: EndpointID,
        role: Role,
        canPull: Bool = false,
        canPair: Bool = true,
        kvClass: Int = 0,
        place: PodPlace? = nil,
        profile: PodProfile,
        calibration: PodCalibration = .neutral,
        capacityTokens: Double? = nil,
        backlog: Double = 0,
        batch: Double = 0,
        kvTokens: Double = 0,
        outstandingTokens: Double = 0,
        localShare: Double = 0
    ) {
        self.id = id
        self.role = role
        self.canPull = canPull
        self.canPair = canPair
        self.kvClass = kvClass
        self.place = place
        self.profile = profile
        self.calibration = calibration
        self.capacityTokens = capacityTokens ?? Double(profile.kvCapacityTokens)
        self.backlog = backlog
        self.batch = batch
        self.kvTokens = kvTokens
        self.outstandingTokens = outstandingTokens
        self.localShare = localShare
    }
}

/// What a decision knows of the request: numbers and names, no text and no hashes.
package struct RequestFacts: Sendable, Hashable, Codable {
    package var id: RequestID
    package var model: String?
    package var promptTokens: Int
    package var outputTokens: Int
    package var streams: Bool
    package var priority: Int
    /// Bounds from the request, else from configuration.
    package var serviceLevel: ServiceLevel
    /// Time since it arrived: counts against its TTFT bound.
    package var waited: Seconds
    /// Highest busy dollars that configuration allows for it.
    package var priceLimit: Dollars?
    /// The client's `x-request-id`, nil where it gave none.
    package var externalID: String?

    package init(
        id: RequestID,
        model: String? = nil,
        promptTokens: Int,
        outputTokens: Int,
        streams: Bool = true,
        priority: Int = 0,
        serviceLevel: ServiceLevel = ServiceLevel(),
        waited: Seconds = .zero,
        priceLimit: Dollars? = nil,
        externalID: String? = nil
    ) {
        self.id = id
        self.model = model
        self.promptTokens = promptTokens
        self.outputTokens = outputTokens
        self.streams = streams
        self.priority = priority
        self.serviceLevel = serviceLevel
        self.waited = waited
        self.priceLimit = priceLimit
        self.externalID = externalID
    }
}

/// What goes on around one request, the same for every pod.
package struct Surroundings: Sendable, Hashable, Codable {
    /// Prompts per second and pod that are expected to arrive and to be delayed by this one.
    package var arrivalRate: Double
    /// Seconds of waiting prompts that each pod will be given before this one, unless it is free now.
    package var ahead: Double
    /// A pod with no more backlog than this is free.
    package var openBelow: Double

    package init(arrivalRate: Double = 0, ahead: Double = 0, openBelow: Double = 0) {
        self.arrivalRate = arrivalRate
        self.ahead = ahead
        self.openBelow = openBelow
    }
}
