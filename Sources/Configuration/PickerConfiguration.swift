// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CostModel
package import Router

/// What an operator may say of the decision itself: service levels, constraints, priorities and the dials.
///
/// docs/configuration.md describes the file; every key is optional.
package struct PickerConfiguration: Sendable, Hashable {
    package var mode: Mode?
    package var binding: Binding?
    /// Dials by priority; empty: those of the mode for all.
    package var priorities: [PriorityClass] = []
    /// Priority by the name of the objective that a request's header carries.
    package var objectives: [String: Int] = [:]
    package var serviceLevel = ServiceLevelRule()
    package var serviceLevelByModel: [String: ServiceLevelRule] = [:]
    package var serviceLevelByPool: [String: ServiceLevelRule] = [:]
    package var bindingByPool: [String: Binding] = [:]
    package var enginePriority: [String: EnginePriority] = [:]
    package var control: ControlTarget?
    package var constraints: [Constraint] = []
    package var queue = QueueSettings()
    /// Engines beside the built-in ones, or in place of them.
    package var engines: [EngineMetrics] = []
    package var kvCache = KVCacheSettings()
    /// Links between pods in different zones, racks and hosts.
    package var network = NetworkTopology.standard
    /// What pods of a pool do not say themselves, by the pool's name. For Kubernetes; a fleet file says it of each endpoint.
    package var pools: [String: PoolDefaults] = [:]

    package init() {}

    package static func read(path: String) throws(ConfigurationErrors) -> PickerConfiguration {
        try Document.read(path: path, configuration)
    }

    package static func read(text: String, file: String) throws(ConfigurationErrors) -> PickerConfiguration {
        try Document.read(text: text, file: file, configuration)
    }

    // MARK: - Bounds

    private static let priorityRange = -1_000_000...1_000_000
    /// A second of anybody's waiting is worth less than this.
    private static let mostDollars = 1e6
    private static let mostRules = 1000
    private static let latencies = Seconds(0.000_001)...Seconds(3600)

    private static func configuration(_ root: DocumentValue) -> PickerConfiguration? {
        root.object { object in
            var result = PickerConfiguration()
            result.mode = object.optional("mode")?.choice(Mode.self)
            result.binding = object.optional("binding")?.choice(Binding.self)
            result.priorities = (object.optional("priorities")?.list(maxCount: mostRules) ?? []).compactMap(priority)
            for (name, value) in object.optional("objectives")?.entries() ?? [] {
                result.objectives[name] = value.integer(in: priorityRange)
            }
            if let levels = object.optional("serviceLevels") { result.readServiceLevels(levels) }
            for (name, value) in object.optional("pools")?.entries() ?? [] { result.readPool(name, value) }
            result.control = object.optional("control").flatMap(target)
            result.constraints = (object.optional("constraints")?.list(maxCount: mostRules) ?? [])
                .compactMap(constraint)
            if let queue = object.optional("queue").flatMap(queueSettings) { result.queue = queue }
            result.engines = (object.optional("engines")?.list(maxCount: EngineMetrics.maximum) ?? [])
                .compactMap(EngineMetrics.read)
            if let network = object.optional("network").flatMap(NetworkTopology.read) { result.network = network }
            if let kvCache = object.optional("kvCache").flatMap(KVCacheSettings.read) { result.kvCache = kvCache }
            return result
        }
    }

    private mutating func readServiceLevels(_ value: DocumentValue) {
        let read: PickerConfiguration? = value.object { object in
            var result = self
            if let rule = object.optional("default").flatMap(Self.rule) { result.serviceLevel = rule }
            for (name, value) in object.optional("models")?.entries() ?? [] {
                result.serviceLevelByModel[name] = Self.rule(value)
            }
            return result
        }
        if let read { self = read }
    }

    private mutating func readPool(_ name: String, _ value: DocumentValue) {
        let read: PickerConfiguration? = value.object { object in
            var result = self
            result.bindingByPool[name] = object.optional("binding")?.choice(Binding.self)
            result.enginePriority[name] = object.optional("enginePriority")?.choice(EnginePriority.self)
            if let rule = object.optional("serviceLevel").flatMap(Self.rule) { result.serviceLevelByPool[name] = rule }
            result.pools[name] = PoolDefaults(object)
            return result
        }
        if let read { self = read }
    }

    /// One of the two targets: together they could not both be met.
    private static func target(_ value: DocumentValue) -> ControlTarget? {
        value.object { object in
            let dollars = object.optional("dollarsPerThousand")?.number(in: 0.000_001...mostDollars)
            let attainment = object.optional("attainment")?.number(in: 0.01...0.999_9)
            switch (dollars, attainment) {
            case (let dollars?, nil): return .dollarsPerRequest(Dollars(dollars / 1000))
            case (nil, let attainment?): return .attainment(attainment)
            default:
                object.reject("needs one of `dollarsPerThousand` and `attainment`")
                return nil
            }
        }
    }

    private static func rule(_ value: DocumentValue) -> ServiceLevelRule? {
        value.object { object in
            ServiceLevelRule(
                ttftBase: object.optional("ttft")?.duration(in: latencies),
                ttftPerPromptToken: object.duration(
                    "ttftPerPromptToken",
                    in: .zero...Seconds(1),
                    default: .zero
                ),
                tpot: object.optional("tpot")?.duration(in: latencies)
            )
        }
    }

    private static func priority(_ value: DocumentValue) -> PriorityClass? {
        value.object { object in
            guard let minimum = object.required("minimumPriority")?.integer(in: priorityRange),
                let time = object.required("valueOfTime")?.number(in: 0...mostDollars),
                let miss = object.required("sloMissPrice")?.number(in: 0...mostDollars)
            else { return nil }
            return PriorityClass(
                minimumPriority: minimum,
                dials: Dials(valueOfTime: time, sloMissPrice: Dollars(miss))
            )
        }
    }

    private static func constraint(_ value: DocumentValue) -> Constraint? {
        value.object { object in
            Constraint(
                model: object.optional("model")?.string(),
                maximumPriority: object.optional("maximumPriority")?.integer(in: priorityRange),
                accelerators: strings(object.optional("accelerators")),
                excludedPods: strings(object.optional("excludedPods")) ?? [],
                priceLimit: object.optional("highestPrice")?.number(in: 0...mostDollars).map { Dollars($0) }
            )
        }
    }

    private static func queueSettings(_ value: DocumentValue) -> QueueSettings? {
        value.object { object in
            var queue = QueueSettings()
            queue.maximumRequests = object.integer(
                "maximumRequests",
                in: 0...1_000_000,
                default: queue.maximumRequests
            )
            queue.maximumBytes = object.integer("maximumBytes", in: 0...(1 << 40), default: queue.maximumBytes)
            queue.maximumHold = object.duration("maximumHold", in: latencies, default: queue.maximumHold)
            return queue
        }
    }

    private static func strings(_ value: DocumentValue?) -> [String]? {
        value.map { $0.list(maxCount: mostRules).compactMap { $0.string() } }
    }
}
