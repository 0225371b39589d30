// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex
package import Router

/// Makes the policy of one picker: its index and its seed are its own.
package typealias PolicyMaker = (_ picker: Int, _ prefixes: SimulatedPrefixes, _ seed: UInt64) -> any SimulatedPolicy

/// One run: a workload on a fleet under a policy, in virtual time, from a seed.
///
/// The truth (`ModelServer`, `SharedNetwork`) and what pickers know of it are kept apart: a picker hears of arrivals,
/// first tokens, ends and scrapes, and its words take `controlDelay` to reach a pod. Several pickers share nothing.
package final class Simulation {
    package let workload: Workload
    package let endpoints: [Endpoint]
    package let options: SimulationOptions
    let knowledge: PolicyKnowledge
    private let makePolicy: PolicyMaker
    /// nil: all pods are ready all the time.
    let control: (any FleetControl)?
    /// Nanoseconds of any clock, to time decisions. nil: they are not timed.
    private let stopwatch: (() -> UInt64)?

    let farm: ServerFarm
    var network: SharedNetwork
    var queue = EventQueue()
    var now = 0.0
    var requests: [SimulatedRequest]
    var hash = TraceHash()
    var isDown: [Bool]
    /// What `control` said last.
    var isReady: [Bool]

    /// Per picker.
    var policies: [any SimulatedPolicy] = []
    var prefixes: [SimulatedPrefixes] = []
    var lengths: [MedianOutputLengths]
    var wakes: [Double]
    /// What a picker was told last of each pod.
    var snapshot: FleetSnapshot
    /// Pods whose scrapes fail, and the time of the last good one.
    var isSilent: [Bool]
    /// Per pod, what the last good scrape read.
    var readCounters: [ServerCounters]

    /// Servers' versions in the event queue, and the time they are queued for.
    private var versions: [UInt32]
    private var queuedFor: [Double?]
    var dirty: [Int] = []
    var inbox: [(server: Int, event: ServerEvent)] = []
    private var scratch: [ServerEvent] = []
    var due: [SharedNetwork.Due] = []
    private var actions: [RouterAction] = []
    var delayedReports: [DelayedReport] = []
    var reportDraws: RandomStream

    let indexOf: [EndpointID: Int]
    var unresolved: Int
    private var arrived = 0
    var missed: MissedRequests
    var lastProgress = 0.0
    var decisions = 0
    private var decisionNanoseconds: UInt64 = 0
    var series = UtilisationSeries()
    var preemptions = 0

    /// News of cached blocks on its way to the pickers.
    struct DelayedReport {
        var pod: Int
        var stored: Bool
        var hashes: [UInt64]
    }

    package init(
        workload: Workload,
        endpoints: [Endpoint],
        options: SimulationOptions,
        knowledge: PolicyKnowledge = PolicyKnowledge(),
        stopwatch: (() -> UInt64)? = nil,
        control: (any FleetControl)? = nil,
        makePolicy: @escaping PolicyMaker
    ) throws(SimulationError) {
        try Self.judge(endpoints)
        self.workload = workload
        self.endpoints = Self.connected(endpoints)
        self.knowledge = knowledge
        self.makePolicy = makePolicy
        self.stopwatch = stopwatch
        self.control = control
        var options = options
        options.pickers = max(options.pickers, 1)
        if knowledge.exactState {
            options.controlDelay = 0
            options.scrapeInterval = min(options.scrapeInterval, 0.01)
        }
        self.options = options
        let speeds = Self.speeds(of: endpoints, options)
        farm = ServerFarm(
            servers: Self.servers(endpoints, workload, options, speeds),
            hasReports: !options.blockReports.areExact
        )
        network = SharedNetwork(rates: endpoints.map(\.profile.networkBytesPerSecond))
        requests = Array(repeating: SimulatedRequest(), count: workload.requests.count)
        missed = MissedRequests(requests: requests.count)
        unresolved = requests.count
        isDown = Array(repeating: false, count: endpoints.count)
        isSilent = isDown
        isReady = Array(repeating: true, count: endpoints.count)
        readCounters = Array(repeating: ServerCounters(), count: endpoints.count)
        lengths = Array(repeating: MedianOutputLengths(), count: options.pickers)
        wakes = Array(repeating: .infinity, count: options.pickers)
        versions = Array(repeating: 0, count: endpoints.count)
        queuedFor = Array(repeating: nil, count: endpoints.count)
        reportDraws = RandomStream(seed: options.seed, kind: 0xB10C, index: 0)
        indexOf = Dictionary(uniqueKeysWithValues: endpoints.enumerated().map { ($1.id, $0) })
        let known = knowledge.exactState ? Self.scaled(self.endpoints, by: speeds) : self.endpoints
        snapshot = FleetSnapshot(
            version: 0,
            endpoints: known.map { EndpointStatus(endpoint: $0) },
            modelListsAreFresh: false
        )
        drawRequests()
        for picker in 0..<options.pickers { startPicker(picker, generation: 0) }
    }

    // MARK: Setting up

    private static func judge(_ endpoints: [Endpoint]) throws(SimulationError) {
        guard endpoints.contains(where: \.role.canDecode) else {
            throw .impossibleFleet("no pod of the fleet can decode")
        }
        guard endpoints.contains(where: { $0.role == .both }) || endpoints.contains(where: { $0.role == .prefill })
        else { throw .impossibleFleet("no pod of the fleet can prefill") }
    }

    /// How many times its profile's durations each pod takes.
    static func speeds(of endpoints: [Endpoint], _ options: SimulationOptions) -> [Double] {
        endpoints.indices.map { index in
            var draw = RandomStream(seed: options.seed, kind: 0x5EED, index: UInt64(index))
            return draw.logNormal(sigma: options.speedBias)
        }
    }

    private func drawRequests() {
        var draw = RandomStream(seed: options.seed, kind: 0x4E0, index: 0)
        for index in requests.indices {
            requests[index].isSheddable = draw.uniform() < options.sheddableShare
            requests[index].streams = draw.uniform() < options.streamingShare
            requests[index].picker = Int32(truncatingIfNeeded: draw.next() % UInt64(options.pickers))
            let (before, after) = (Double(index) * options.observedShare, Double(index + 1) * options.observedShare)
            requests[index].isObserved = before.rounded(.down) < after.rounded(.down)
        }
    }

    func startPicker(_ picker: Int, generation: UInt64) {
        let index = SimulatedPrefixes(farm: farm, blockSize: workload.blockSize, endpoints: endpoints)
        var seeds = RandomStream(seed: options.seed, kind: 0x91C << 32 | generation, index: UInt64(picker))
        let policy = makePolicy(picker, index, seeds.next())
        if picker < policies.count {
            prefixes[picker] = index
            policies[picker] = policy
            lengths[picker] = MedianOutputLengths()
            wakes[picker] = .infinity
        } else {
            prefixes.append(index)
            policies.append(policy)
        }
    }

    // MARK: Running

    /// Runs to the last request's end.
    ///
    /// - Parameter progress: told the share of requests that ended, now and then.
    /// - Returns: what the run left behind.
    /// - Throws: `SimulationError` where a promise is broken.
    package func run(progress: ((Double) -> Void)? = nil) throws(SimulationError) -> RunRecord {
        guard let record = try run(mostMissed: nil, progress: progress) else {
            throw .stalled(at: now, waiting: unresolved)
        }
        return record
    }

    /// The same, but ends with nil as soon as more than `mostMissed` requests have missed their service level.
    func run(mostMissed: Int?, progress: ((Double) -> Void)?) throws(SimulationError) -> RunRecord? {
        if mostMissed != nil { missed.watch(workload, options.serviceLevel) }
        _ = scrape()
        for picker in policies.indices { try tell(picker, .fleetChanged(snapshot)) }
        if !workload.requests.isEmpty { queue.push(at: workload.requests[0].arrival, .arrival, 0) }
        queue.push(at: options.scrapeInterval, .scrape)
        queue.push(at: 0, .sample)
        for (index, fault) in options.faults.enumerated() {
            queue.push(at: max(fault.from, 0), .fault, index, 0)
            queue.push(at: max(fault.to, fault.from, 0), .fault, index, 1)
        }
        var steps = 0
        while unresolved > 0, let event = queue.pop() {
            guard event.at >= now else { throw .timeRanBackwards(from: now, to: event.at) }
            now = event.at
            try take(event)
            try drain()
            if let mostMissed {
                missed.advance(to: now, requests)
                if missed.count > mostMissed { return nil }
            }
            steps &+= 1
            if steps & 0xFFFF == 0 { progress?(1 - Double(unresolved) / Double(max(requests.count, 1))) }
            guard now - lastProgress < Self.patience || outstanding == 0 else {
                throw .stalled(at: now, waiting: outstanding)
            }
        }
        guard unresolved == 0 else { throw .stalled(at: now, waiting: outstanding) }
        try checkLedgers()
        sample()
        return record()
    }

    /// Requests were there, and none ended for this long: no policy holds one for hours on purpose.
    private static let patience = 7200.0

    /// Requests that have arrived and not ended.
    private var outstanding: Int { unresolved - (requests.count - arrived) }

    private func take(_ event: DueEvent) throws(SimulationError) {
        let index = Int(event.a)
        switch event.kind {
        case .arrival: try arrive(index)
        case .server:
            guard versions[index] == event.b else { return }
            queuedFor[index] = nil
            touch(index)
        case .submission: try submit(index)
        case .transfer: endTransfer(index, version: event.b)
        case .kvArrival: try kvArrived(index, isPrompt: event.b == 1)
        case .keepTimeout:
            if requests[index].holdsPrefill { try fail(index, .failed) }
        case .scrape:
            try tellPhases()
            try tellLoads(scrape())
            queue.push(at: now + options.scrapeInterval, .scrape)
        case .wake:
            guard wakes[index] <= now else { return }
            wakes[index] = .infinity
            try tell(index, .tick)
        case .fault: try apply(options.faults[index], begins: event.b == 0)
        case .sample:
            sample()
            let span = workload.span
            let gap = max(span / Double(max(options.seriesPoints, 1)), 1)
            queue.push(at: now + gap, .sample)
        case .blockReport: deliverReport(index)
        }
    }

    private func arrive(_ index: Int) throws(SimulationError) {
        if index + 1 < requests.count { queue.push(at: workload.requests[index + 1].arrival, .arrival, index + 1) }
        let offered = workload.requests[index]
        let picker = Int(requests[index].picker)
        if outstanding == 0 { lastProgress = now }
        arrived += 1
        requests[index].state = .waiting
        let expected =
            knowledge.trueLengths ? offered.outputTokens : lengths[picker].estimate(promptTokens: offered.promptTokens)
        let request = InferenceRequest(
            id: RequestID(UInt64(index)),
            model: nil,
            promptTokens: offered.promptTokens,
            outputTokens: expected,
            streams: requests[index].streams,
            showsFirstToken: requests[index].isObserved,
            priority: requests[index].isSheddable ? -1 : 0,
            serviceLevel: options.serviceLevel.level(promptTokens: offered.promptTokens),
            prefix: PrefixKeys(
                kind: .tokens,
                tokensPerBlock: Double(workload.blockSize),
                hashes: offered.promptHashes
            )
        )
        try tell(picker, .arrived(request))
    }

    // MARK: Pickers

    /// Tells all pickers what a scrape found: the whole picture where more than loads has changed.
    private func tellLoads(_ isOnlyLoads: Bool) throws(SimulationError) {
        for picker in policies.indices {
            guard isOnlyLoads else {
                try tell(picker, .fleetChanged(snapshot))
                continue
            }
            for index in endpoints.indices {
                guard let load = snapshot.endpoints[index].load, load.observedAt.rawValue == now else { continue }
                try tell(picker, .loadObserved(endpoints[index].id, load))
            }
        }
    }

    /// Tells a picker something, and does what it says.
    func tell(_ picker: Int, _ event: RouterEvent) throws(SimulationError) {
        actions.removeAll(keepingCapacity: true)
        let begin = stopwatch?() ?? 0
        policies[picker].handle(event, at: Instant(now), into: &actions)
        decisionNanoseconds &+= (stopwatch?() ?? 0) &- begin
        let wanted = actions
        for action in wanted {
            switch action {
            case .dispatch(let id, let decision): try dispatch(picker, id, decision)
            case .refuse(let id, _): try refuse(picker, id)
            case .wake(let at):
                let due = max(at.rawValue, now)
                guard due < wakes[picker] else { continue }
                wakes[picker] = due
                queue.push(at: due, .wake, picker)
            }
        }
    }

    private func waitingRequest(_ picker: Int, _ id: RequestID) throws(SimulationError) -> Int {
        guard id.rawValue < UInt64(requests.count) else { throw .unknownRequest(id.rawValue) }
        let index = Int(id.rawValue)
        guard requests[index].state == .waiting, requests[index].picker == picker else {
            throw .notEligible(request: index, reason: "it is not waiting at picker \(picker)")
        }
        return index
    }

    private func dispatch(_ picker: Int, _ id: RequestID, _ decision: Decision) throws(SimulationError) {
        let index = try waitingRequest(picker, id)
        let prefiller = try pod(decision.placement.prefiller, for: index)
        let decoder = try pod(decision.placement.destination, for: index)
        try checkEligibility(index, decision.placement, prefiller, decoder)
        decisions += 1
        requests[index].state = .sent
        requests[index].prefiller = Int32(prefiller)
        requests[index].decoder = Int32(decoder)
        requests[index].pullFrom =
            try decision.pullFrom.map { id throws(SimulationError) in
                Int32(try pod(id, for: index))
            } ?? -1
        requests[index].isPendingAtPrefiller = true
        requests[index].isPendingAtDecoder = prefiller != decoder
        requests[index].sentAt = now
        requests[index].priority = decision.enginePriority.map(Double.init) ?? workload.requests[index].arrival
        hash.add(1, index, now)
        hash.add(UInt64(prefiller) << 32 | UInt64(decoder) ^ UInt64(bitPattern: Int64(requests[index].pullFrom)) << 16)
        let overhead = endpoints[prefiller].profile.ttftOverhead.rawValue
        queue.push(at: now + options.controlDelay + max(overhead, 0), .submission, index)
    }

    private func refuse(_ picker: Int, _ id: RequestID) throws(SimulationError) {
        let index = try waitingRequest(picker, id)
        hash.add(2, index, now)
        requests[index].state = .refused
        missed.add(index)
        resolved()
    }

    func resolved() {
        unresolved -= 1
        lastProgress = now
    }

    private func pod(_ id: EndpointID, for request: Int) throws(SimulationError) -> Int {
        guard let index = indexOf[id] else { throw .notEligible(request: request, reason: "no endpoint \(id)") }
        return index
    }

    private func checkEligibility(
        _ request: Int,
        _ placement: Placement,
        _ prefiller: Int,
        _ decoder: Int
    ) throws(SimulationError) {
        let (p, d) = (endpoints[prefiller].role, endpoints[decoder].role)
        let fits =
            switch placement {
            case .pair: p.canPrefill && d.canDecode && prefiller != decoder
            case .local: d.canDecode
            case .both: d == .both
            }
        if case .pair = placement, link(prefiller, decoder) == nil {
            throw .notEligible(request: request, reason: "these pods cannot exchange KV")
        }
        guard fits else { throw .notEligible(request: request, reason: "roles \(p) and \(d) for \(placement)") }
    }

    /// How KV moves between two pods, nil where it cannot.
    func link(_ source: Int, _ target: Int) -> (connector: Connector, repacks: Bool)? {
        let (p, d) = (endpoints[source].kv, endpoints[target].kv)
        let name = p.connector ?? d.connector
        let connector = options.connectors.first { $0.name == name } ?? .unknown
        guard case .compatible(let repacks) = KVCompatibility(prefill: p, decode: d, connector: connector) else {
            return nil
        }
        return (connector, repacks)
    }

    // MARK: Servers

    /// Brings a server to the present, and keeps what it reports.
    func touch(_ server: Int) {
        farm.servers[server].advance(to: Instant(now), into: &scratch)
        collect(server)
    }

    /// Does something to a server that is at the present.
    func with(_ server: Int, _ body: (inout ModelServer, Instant, inout [ServerEvent]) -> Void) {
        farm.servers[server].advance(to: Instant(now), into: &scratch)
        body(&farm.servers[server], Instant(now), &scratch)
        collect(server)
    }

    private func collect(_ server: Int) {
        farm.follow(server)
        for event in scratch { inbox.append((server, event)) }
        scratch.removeAll(keepingCapacity: true)
        dirty.append(server)
    }

    /// Handles all that servers reported, and whatever follows from it at this moment.
    private func drain() throws(SimulationError) {
        var next = 0
        while next < inbox.count {
            let (server, event) = inbox[next]
            next += 1
            try take(event, from: server)
        }
        inbox.removeAll(keepingCapacity: true)
        for server in dirty {
            let wanted = farm.servers[server].nextEvent?.rawValue
            guard farm.servers[server].usedTokens >= 0 else { throw .negativeLedger(pod: endpoints[server].name) }
            guard wanted != queuedFor[server] else { continue }
            queuedFor[server] = wanted
            versions[server] &+= 1
            if let wanted { queue.push(at: wanted, .server, server, versions[server]) }
        }
        dirty.removeAll(keepingCapacity: true)
        for change in due { queue.push(at: change.at, .transfer, change.transfer, change.version) }
        due.removeAll(keepingCapacity: true)
    }

    private func checkLedgers() throws(SimulationError) {
        for (server, endpoint) in zip(farm.servers, endpoints) where server.usedTokens < 0 || server.decodeContext < 0 {
            throw .negativeLedger(pod: endpoint.name)
        }
    }

    private func record() -> RunRecord {
        RunRecord(
            workload: workload,
            options: options,
            endpoints: endpoints,
            requests: requests,
            counters: farm.servers.map(\.counters),
            series: series,
            traceHash: hash.value,
            decisions: decisions,
            decisionSeconds: Double(decisionNanoseconds) / 1e9,
            parameters: policies.first?.parameters ?? [:]
        )
    }
}
