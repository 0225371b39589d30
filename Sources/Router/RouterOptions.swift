// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// When a request is given its pods.
package enum Binding: String, Sendable, Hashable, Codable, CaseIterable {
    /// On arrival.
    case early
    /// When a pod is about to be free, by the order of a central queue.
    case late
}

/// Which numbers an engine that schedules by priority serves first.
package enum EnginePriority: String, Sendable, Hashable, Codable, CaseIterable {
    /// vLLM with `--scheduling-policy priority`.
    case lowestFirst
    /// SGLang with `--enable-priority-scheduling`.
    case highestFirst
}

/// Service levels that configuration sets for requests which bring none.
package struct ServiceLevelRule: Sendable, Hashable, Codable {
    /// TTFT bound = base + perToken × prompt tokens. nil = none.
    package var ttftBase: Seconds?
    package var ttftPerPromptToken: Seconds
    package var tpot: Seconds?

    package init(ttftBase: Seconds? = nil, ttftPerPromptToken: Seconds = .zero, tpot: Seconds? = nil) {
        self.ttftBase = ttftBase
        self.ttftPerPromptToken = ttftPerPromptToken
        self.tpot = tpot
    }

    package func level(promptTokens: Int) -> ServiceLevel {
        ServiceLevel(ttft: ttftBase.map { $0 + ttftPerPromptToken * Double(max(promptTokens, 0)) }, tpot: tpot)
    }
}

/// A limit on where requests of a model and priority may go. All rules that match hold together.
package struct Constraint: Sendable, Hashable, Codable {
    /// nil = every model.
    package var model: String?
    /// Holds for this priority and below. nil = every priority.
    package var maximumPriority: Int?
    /// nil = every accelerator.
    package var accelerators: [String]?
    /// Endpoint names.
    package var excludedPods: [String]
    /// Highest busy dollars of one request.
    package var priceLimit: Dollars?

    package init(
        model: String? = nil,
        maximumPriority: Int? = nil,
        accelerators: [String]? = nil,
        excludedPods: [String] = [],
        priceLimit: Dollars? = nil
    ) {
        self.model = model
        self.maximumPriority = maximumPriority
        self.accelerators = accelerators
        self.excludedPods = excludedPods
        self.priceLimit = priceLimit
    }

    func matches(model other: String?, priority: Int) -> Bool {
        (model == nil || model == other) && (maximumPriority.map { priority <= $0 } ?? true)
    }
}

/// Bounds of the central queue and its rules.
package struct QueueSettings: Sendable, Hashable, Codable {
    /// Waiting requests. Beyond the bound binding is early, which piles requests up in the pods' own queues: in the
    /// simulator at 2.2 × the load of Mooncake's trace 256 met 88 % of service levels, 4,096 met 95 %. Two minutes at
    /// 1.4 × the saturation of ten pods leave 6,700 waiting.
    package var maximumRequests: Int
    package var maximumBytes: Int
    /// No request waits here longer. Ten minutes are the default time-out of OpenAI's clients, and who leaves leaves the
    /// queue: half an hour is for those who stay, whose place would else be taken from requests that are still in time.
    package var maximumHold: Seconds
    /// How long requests go on waiting once the fleet has no pod for output any more. Zero: they are refused at once.
    package var podlessHold: Seconds
    /// Requests of the order that are looked at in vain. In the simulator at twice the recorded load of Mooncake's trace
    /// 16 met 95 % of service levels, 8 met 94 %, 2 met 89 %.
    package var lookahead: Int
    /// Pods that one round prices before it leaves the rest to the next, a millisecond later: a look at one request
    /// prices each of its candidates, some 150 ns a pod, and the lock is held for a round. At least one request is looked
    /// at; a small fleet's round looks at all.
    package var pricedPerRound: Int
    /// How long a request that is held is not looked at again, unless a pod opens that it might take, per `pricedPerRound`
    /// pods of the fleet.
    package var reviewAfter: Seconds
    /// Seconds from a dispatch to the pod's knowing of it, and back.
    package var controlDelay: Seconds
    /// A pod takes the next prompt when its backlog is below this share of the mean prompt's work …
    package var backlogShare: Double
    /// … but never above this many seconds.
    package var maximumBacklog: Seconds
    /// A pod takes a further sequence only while its decode step, stretched by prefills, stays below this share of the
    /// TPOT bound. Beyond, more sequences make all of them late, and the queue is the better place to wait.
    package var roomShare: Double

    package init(
        maximumRequests: Int = 8192,
        maximumBytes: Int = 256 << 20,
        maximumHold: Seconds = Seconds(1800),
        podlessHold: Seconds = .zero,
        lookahead: Int = 16,
        pricedPerRound: Int = 256,
        reviewAfter: Seconds = Seconds(0.01),
        controlDelay: Seconds = Seconds(0.01),
        backlogShare: Double = 1,
        maximumBacklog: Seconds = Seconds(0.5),
        roomShare: Double = 0.9
    ) {
        self.maximumRequests = maximumRequests
        self.maximumBytes = maximumBytes
        self.maximumHold = maximumHold
        self.podlessHold = podlessHold
        self.lookahead = lookahead
        self.pricedPerRound = pricedPerRound
        self.reviewAfter = reviewAfter
        self.controlDelay = controlDelay
        self.backlogShare = backlogShare
        self.maximumBacklog = maximumBacklog
        self.roomShare = roomShare
    }
}

/// All that a Router is told once.
package struct RouterOptions: Sendable {
    package var binding: Binding
    /// For requests that a pool's rules hold for, instead of `binding`.
    package var bindingByPool: [String: Binding]
    /// Pools whose engines are told a priority with each request.
    package var enginePriority: [String: EnginePriority]
    /// Unix time at the router's `Instant.origin`: engines' priorities of several pickers, and of a picker that was started
    /// again, must compare.
    package var epoch: Seconds
    /// Dials by priority, lowest class first. Never empty: `mode` makes one class for all.
    package var classes: [PriorityClass]
    package var settings: CostSettings
    package var queue: QueueSettings
    package var health: HealthSettings
    package var connectors: [Connector]
    /// Links between pods that stand apart.
    package var network: NetworkTopology
    /// Stores of KV cache that belong to no pod.
    package var stores: [SharedStore]
    package var serviceLevel: ServiceLevelRule
    package var serviceLevelByModel: [String: ServiceLevelRule]
    package var serviceLevelByPool: [String: ServiceLevelRule]
    package var constraints: [Constraint]
    /// 404 for a model that no pod serves, once every model list is fresh.
    package var refusesUnknownModels: Bool
    package var ignoresSubset: Bool
    /// Share of decisions that leave a `DecisionRecord`.
    package var recordedShare: Double
    /// Further destinations to name in a decision.
    package var fallbacks: Int
    /// Steers the value of time. nil: the dials stay.
    package var control: ControlTarget?
    /// This picker among those that share work.
    package var picker: UInt32
    /// Leave notices for the other pickers.
    package var sharesWork: Bool

    package init(
        binding: Binding = .early,
        bindingByPool: [String: Binding] = [:],
        enginePriority: [String: EnginePriority] = [:],
        epoch: Seconds = .zero,
        mode: Mode = .latency,
        classes: [PriorityClass] = [],
        settings: CostSettings = CostSettings(),
        queue: QueueSettings = QueueSettings(),
        health: HealthSettings = HealthSettings(),
        connectors: [Connector] = [],
        network: NetworkTopology = .flat,
        stores: [SharedStore] = [],
        serviceLevel: ServiceLevelRule = ServiceLevelRule(),
        serviceLevelByModel: [String: ServiceLevelRule] = [:],
        serviceLevelByPool: [String: ServiceLevelRule] = [:],
        constraints: [Constraint] = [],
        refusesUnknownModels: Bool = true,
        ignoresSubset: Bool = false,
        recordedShare: Double = 0,
        fallbacks: Int = 0,
        control: ControlTarget? = nil,
        picker: UInt32 = 0,
        sharesWork: Bool = false
    ) {
        self.binding = binding
        self.bindingByPool = bindingByPool
        self.enginePriority = enginePriority
        self.epoch = epoch
        let sorted = classes.sorted { $0.minimumPriority < $1.minimumPriority }
        self.classes = sorted.isEmpty ? [PriorityClass(minimumPriority: .min, dials: mode.dials)] : sorted
        self.settings = settings
        self.queue = queue
        self.health = health
        self.connectors = connectors
        self.network = network
        self.stores = Array(stores.prefix(SharedStore.maximum))
        self.serviceLevel = serviceLevel
        self.serviceLevelByModel = serviceLevelByModel
        self.serviceLevelByPool = serviceLevelByPool
        self.constraints = constraints
        self.refusesUnknownModels = refusesUnknownModels
        self.ignoresSubset = ignoresSubset
        self.recordedShare = recordedShare
        self.fallbacks = fallbacks
        self.control = control
        self.picker = picker
        self.sharesWork = sharesWork
    }

    /// Some rule holds for the requests of one pool only.
    var hasPoolRules: Bool { !bindingByPool.isEmpty || !serviceLevelByPool.isEmpty }

    /// Index of the class that a priority falls into; priorities below all classes fall into the lowest.
    func classIndex(of priority: Int) -> Int {
        max((classes.firstIndex { $0.minimumPriority > priority } ?? classes.count) - 1, 0)
    }

    /// The request's own bounds, completed by the most specific rule.
    func serviceLevel(of request: InferenceRequest) -> ServiceLevel {
        var level = request.serviceLevel
        guard level.ttft == nil || level.tpot == nil else { return level }
        let rule =
            request.model.flatMap { serviceLevelByModel[$0] } ?? request.ruledBy.flatMap { serviceLevelByPool[$0] }
            ?? serviceLevel
        let configured = rule.level(promptTokens: request.promptTokens)
        if level.ttft == nil { level.ttft = configured.ttft }
        if level.tpot == nil { level.tpot = configured.tpot }
        return level
    }
}
