// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Follows everything of a cluster that concerns the picker. Pure, as `ResourceWatch` is: what its watches send and hear goes
/// through here, under tags, and the state of the cluster comes out.
///
/// The pods' watches follow from the pools: each pool's selector has one. When a selector changes, its new watch lists first,
/// and only then takes the old one's place.
package struct ClusterMachine: Sendable {
    /// A request to send; its answer is told under the tag.
    package struct Sending: Sendable, Hashable {
        package var tag: Int
        package var request: KubernetesRequest
    }

    enum Key: Hashable, Sendable {
        case pools, olderPools, nodes
        case objectives, olderObjectives, rewrites, olderRewrites, models
        /// Of a pool, by its place in the selection. Each selector has a number of its own.
        case pods(pool: Int, number: Int)
    }

    private struct PodWatches: Sendable {
        /// What the current watch selects.
        var selector: String?
        var current: Key?
        var next: (key: Key, selector: String)?
    }

    package let selection: ClusterSelection
    private let settings: WatchSettings
    private var random: WatchRandom
    private var watches: [Key: any Watching] = [:]
    /// The keys of `watches` in the order of their making: nothing may depend on a dictionary's order.
    private var order: [Key] = []
    private var podWatches: [PodWatches] = []
    private var inFlight: [Int: Key] = [:]
    private var nextTag = 0
    private var nextNumber = 0
    /// Counts changes of which watches there are.
    private var arrangement: UInt64 = 0

    package init(_ selection: ClusterSelection, _ settings: WatchSettings = WatchSettings(), seed: UInt64) {
        self.selection = selection
        self.settings = settings
        random = WatchRandom(seed: seed)
        podWatches = selection.poolNames.map { _ in PodWatches() }
        makeFixedWatches()
    }

    private mutating func makeFixedWatches() {
        let space = selection.namespace
        let newer = ClusterSelection.group
        let older = ClusterSelection.olderGroup
        let llmD = ClusterSelection.llmDGroup
        if case .pools(let names) = selection.pods {
            // Rights may be given for one pool alone, which a list by name is within.
            let field = names.count == 1 ? "metadata.name=\(names[0])" : nil
            for (key, group, version) in [(Key.pools, newer, "v1"), (.olderPools, older, "v1alpha2")]
            where selection.poolGroup == nil || selection.poolGroup == group {
                let place = ResourcePlace(
                    group: group,
                    version: version,
                    plural: "inferencepools",
                    namespace: space,
                    fieldSelector: field
                )
                add(key, ResourceWatch<InferencePool>(place, settings))
            }
        } else if case .selector(let selector, _) = selection.pods {
            watchPods(of: 0, selector)
        }
        add(.nodes, ResourceWatch<Node>(ResourcePlace(version: "v1", plural: "nodes"), settings))
        func custom(_ group: String, _ plural: String) -> ResourcePlace {
            ResourcePlace(group: group, version: "v1alpha2", plural: plural, namespace: space)
        }
        add(.objectives, ResourceWatch<InferenceObjective>(custom(llmD, "inferenceobjectives"), settings))
        add(.olderObjectives, ResourceWatch<InferenceObjective>(custom(older, "inferenceobjectives"), settings))
        add(.rewrites, ResourceWatch<InferenceModelRewrite>(custom(llmD, "inferencemodelrewrites"), settings))
        add(.olderRewrites, ResourceWatch<InferenceModelRewrite>(custom(older, "inferencemodelrewrites"), settings))
        add(.models, ResourceWatch<InferenceModel>(custom(older, "inferencemodels"), settings))
    }

    private mutating func add(_ key: Key, _ watch: some Watching) {
        watches[key] = watch
        order.append(key)
    }

    private mutating func remove(_ key: Key) {
        watches[key] = nil
        order.removeAll { $0 == key }
    }

    private func watch<Object>(_ key: Key, _: Object.Type) -> ResourceWatch<Object>? {
        watches[key] as? ResourceWatch<Object>
    }

    // MARK: - Driving the watches

    package var nextWake: Double { watches.values.reduce(.infinity) { min($0, $1.nextWake) } }

    /// Requests to send now.
    package mutating func requests(at now: Double) -> [Sending] {
        followPools()
        var result: [Sending] = []
        for key in order {
            if let request = watches[key]?.request(at: now, using: &random) { result.append(sending(request, key)) }
        }
        return result
    }

    private mutating func sending(_ request: KubernetesRequest, _ key: Key) -> Sending {
        nextTag &+= 1
        inFlight[nextTag] = key
        return Sending(tag: nextTag, request: request)
    }

    /// - Returns: false where the answer is of no further use: end the transfer, and tell its end.
    package mutating func received(_ tag: Int, _ bytes: [UInt8], status: Int) -> Bool {
        guard let key = inFlight[tag] else { return false }
        return watches[key]?.received(bytes, status: status) ?? false
    }

    /// - Returns: a further request to send at once.
    package mutating func ended(
        _ tag: Int,
        status: Int,
        retryAfter: Double?,
        failure: KubernetesFailure?,
        at now: Double
    ) -> Sending? {
        guard let key = inFlight.removeValue(forKey: tag) else { return nil }
        let further = watches[key]?.ended(
            status: status,
            retryAfter: retryAfter,
            failure: failure,
            at: now,
            using: &random
        )
        return further.flatMap { $0 }.map { sending($0, key) }
    }

    // MARK: - Pools

    /// Brings the pods' watches in line with the pools.
    private mutating func followPools() {
        if case .pools(let names) = selection.pods {
            for (index, name) in names.enumerated() {
                let wanted = pool(named: name)?.labelSelector
                let watched = podWatches[index].next?.selector ?? podWatches[index].selector
                if wanted != watched { watchPods(of: index, wanted) }
            }
        }
        for index in podWatches.indices {
            guard let next = podWatches[index].next, watches[next.key]?.isSynced == true else { continue }
            if let old = podWatches[index].current { remove(old) }
            podWatches[index] = PodWatches(selector: next.selector, current: next.key)
            arrangement &+= 1
        }
    }

    private mutating func watchPods(of pool: Int, _ selector: String?) {
        arrangement &+= 1
        if let next = podWatches[pool].next { remove(next.key) }
        podWatches[pool].next = nil
        guard let selector else {
            if let old = podWatches[pool].current { remove(old) }
            podWatches[pool] = PodWatches()
            return
        }
        nextNumber += 1
        let key = Key.pods(pool: pool, number: nextNumber)
        let place = ResourcePlace(
            version: "v1",
            plural: "pods",
            namespace: selection.namespace,
            labelSelector: selector
        )
        add(key, ResourceWatch<Pod>(place, settings))
        podWatches[pool].next = (key, selector)
    }

    /// The newer group's pool, else the older one's.
    private func pool(named name: String) -> InferencePool? {
        let wanted = ObjectName(namespace: selection.namespace, name: name)
        return watch(.pools, InferencePool.self)?.objects[wanted]
            ?? watch(.olderPools, InferencePool.self)?.objects[wanted]
    }

    // MARK: - What is known

    /// What changed since it was last looked at: another value whenever anything did.
    package struct Revision: Sendable, Hashable {
        var arrangement: UInt64
        var revisions: [UInt64]
    }

    package var revision: Revision {
        Revision(arrangement: arrangement, revisions: order.map { watches[$0]?.revision ?? 0 })
    }

    /// Pools and pods have been listed once, and nodes have been asked for.
    package var isSynced: Bool {
        for key in [Key.pools, .olderPools] {
            if let watch = watches[key], !watch.isSynced { return false }
        }
        for (index, watches) in podWatches.enumerated() {
            guard watches.current == nil else { continue }
            // A pool that does not exist, or cannot be read, has no pods to wait for.
            if watches.next != nil { return false }
            if case .selector = selection.pods { return false }
            if pool(named: selection.poolNames[index]) != nil { return false }
        }
        return watches[.nodes]?.standing != .starting
    }

    package var state: ClusterState {
        var state = ClusterState()
        state.namespace = selection.namespace
        for (index, name) in selection.poolNames.enumerated() { state.pools.append(pool(index, name)) }
        for (name, node) in watch(.nodes, Node.self)?.objects ?? [:] { state.nodes[name.name] = node }
        state.objectives = merged(.objectives, .olderObjectives) { $0.spec.poolRef }
        state.rewrites = merged(.rewrites, .olderRewrites) { $0.spec.poolRef }
        state.models = merged(.models, .models) { $0.spec.poolRef }
        return state
    }

    private func pool(_ index: Int, _ name: String) -> ClusterState.Pool {
        var result = ClusterState.Pool(name: name)
        switch selection.pods {
        case .selector(let selector, let ports):
            result.selector = selector
            result.ports = ports
        case .pools:
            let found = pool(named: name)
            result.selector = found?.labelSelector
            result.ports = found?.targetPorts
            result.picker = found?.picker
            result.trouble = trouble(of: name, isFound: found != nil)
        }
        if let key = podWatches[index].current, let pods = watch(key, Pod.self) {
            result.pods = pods.objects.keys.sorted().compactMap { pods.objects[$0] }
        }
        return result
    }

    private func trouble(of name: String, isFound: Bool) -> String? {
        let wanted = ObjectName(namespace: selection.namespace, name: name)
        for key in [Key.pools, .olderPools] {
            if let why = watches[key]?.invalid[wanted] {
                return "the InferencePool \(wanted) cannot be read: \(why)"
                    + (isFound ? "; its last good state counts" : "")
            }
        }
        guard !isFound else { return nil }
        let standings = [Key.pools, .olderPools].compactMap { watches[$0]?.standing }
        if standings.allSatisfy({ $0 == .absent }) {
            return "the cluster has no InferencePools: their CRD is not installed"
        }
        if let bad = standings.first(where: \.isTrouble) { return "InferencePools cannot be read: \(bad)" }
        return standings.contains(.starting) ? nil : "there is no InferencePool \(wanted)"
    }

    private func merged<Object: KubernetesObject>(
        _ newer: Key,
        _ older: Key,
        _ pool: (Object) -> PoolReference
    ) -> [Object] {
        var found: [String: Object] = [:]
        for key in [older, newer] {
            for (name, object) in watch(key, Object.self)?.objects ?? [:] { found[name.name] = object }
        }
        // Without pools there is nothing for them to refer to: all of the namespace count.
        let names: [String]? = if case .pools(let names) = selection.pods { names } else { nil }
        return found.keys.sorted().compactMap { found[$0] }
            .filter { object in names.map { $0.contains(pool(object).name) } ?? true }
    }

    /// How every watch stands, in a fixed order.
    package var reports: [WatchReport] {
        order.compactMap { key in
            guard let watch = watches[key] else { return nil }
            var isOptional = true
            switch key {
            case .pods, .pools: isOptional = false
            default: break
            }
            return WatchReport(
                kind: watch.place.kind,
                standing: watch.standing,
                isSynced: watch.isSynced,
                counts: watch.counts,
                invalid: Dictionary(
                    watch.invalid.map { ($0.key.description, $0.value) },
                    uniquingKeysWith: { first, _ in first }
                ),
                isOptional: isOptional
            )
        }
    }
}
