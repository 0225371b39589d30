// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Fleet
import Gateway
import Kubernetes
import Router
import Synchronization
import Transport

/// The one Router of the process and its shell: gives it events from every thread in turn, and does what it answers.
///
/// The lock is held for one event. What a decision costs is what a request waits here: a few microseconds.
final class RouterHost: Sendable {
    /// What an endpoint is called on the wire, `ip:port`, and by people.
    private struct Place {
        let hostPort: String
        let name: String
        /// The way to it alone, shared by most requests that are sent there.
        let route: Route

        init(_ endpoint: Endpoint) {
            hostPort = endpoint.hostPort
            name = endpoint.name
            route = Route(destinations: [hostPort])
        }
    }

    private struct State {
        var router: Router
        /// What each endpoint is called, made once for each snapshot.
        var endpoints: [EndpointID: Place] = [:]
        var fleet: [EndpointStatus] = []
        var wakeAt: Instant?
        /// Models that requests on their way are served as, where that is not the one they ask for.
        var rewritten: [RequestID: String] = [:]
        var rules = RequestRules()
        var routes = RoutePools()
        var keySources = KeySourceCounts()
        /// Requests that came while there was no pod to answer them.
        var waiting: PodlessRequests
        /// Reused from event to event.
        var actions: [RouterAction] = []
    }

    /// What becomes of a request.
    struct Answer {
        let request: RequestID
        let verdict: Verdict
        /// What it is expected to find cached, where it is routed.
        var forecast: CacheForecast?
    }

    /// What must be done once the lock is free.
    private struct Effects {
        /// Most events bring one verdict or none.
        private(set) var first: Answer?
        private(set) var others: [Answer] = []
        var wakeAt: Instant?
        /// When the wait for a first pod ends.
        var podlessDeadline: Instant?

        mutating func add(_ answer: Answer) {
            if first == nil { first = answer } else { others.append(answer) }
        }

        mutating func add(_ more: Effects) {
            if let first = more.first { add(first) }
            for answer in more.others { add(answer) }
        }
    }

    let clock: ModelClock
    private let state: Mutex<State>
    private let phases = Mutex(PhaseHistory())
    private let pickers = Mutex<[LoopPicker?]>([])
    private let observer: any ServeObserver
    private let prefixes: PrefixKnowledge
    private let priorities: [String: Int]
    private let destinationPool: String?
    private let pairsReportPrefill: Bool
    private let engineRestarted: @Sendable (EndpointID) -> Void
    private let tellsDecisions: Bool

    /// - Parameters:
    ///   - router: the machine to shell.
    ///   - prefixes: what the router asks; told here what the fleet is.
    ///   - priorities: priority by the name of a request's objective; others have 0.
    ///   - tellsDecisions: answers bear the decision in a header.
    ///   - destinationPool: where destinations lie. nil: anywhere.
    ///   - clock: the model clock of the process.
    ///   - podlessWait: how long requests wait for a first pod. Zero: not at all.
    ///   - observer: hears of each request.
    ///   - pairsReportPrefill: the cached tokens that a pair's answer reports are the prefill pod's.
    ///   - engineRestarted: called when metrics show that a server is a new one.
    init(
        router: Router,
        prefixes: PrefixKnowledge,
        priorities: [String: Int],
        tellsDecisions: Bool = false,
        destinationPool: String? = nil,
        clock: ModelClock,
        podlessWait: Seconds = .zero,
        observer: any ServeObserver,
        pairsReportPrefill: Bool = false,
        engineRestarted: @escaping @Sendable (EndpointID) -> Void = { _ in }
    ) {
        self.clock = clock
        self.pairsReportPrefill = pairsReportPrefill
        self.engineRestarted = engineRestarted
        self.prefixes = prefixes
        self.priorities = priorities
        self.tellsDecisions = tellsDecisions
        self.destinationPool = destinationPool
        self.observer = observer
        var first = State(router: router, waiting: PodlessRequests(wait: podlessWait))
        first.rules.objectives = priorities
        state = Mutex(first)
    }

    /// Makes the picker of a loop, which ends requests that are open for longer than `timeout` of wall time, and bodies that
    /// take longer than `uploadTimeout`. Called on that loop's thread, once.
    func picker(
        on loop: EventLoop,
        timeout: Duration?,
        uploadTimeout: Duration?,
        tokens: PromptTokens?
    ) -> LoopPicker {
        let picker = LoopPicker(
            host: self,
            loop: loop,
            timeout: timeout,
            uploadTimeout: uploadTimeout,
            tokens: tokens
        )
        pickers.withLock { pickers in
            while pickers.count <= loop.index { pickers.append(nil) }
            pickers[loop.index] = picker
        }
        return picker
    }

    // MARK: - From the exchanges

    func arrived(_ parsed: ParsedRequest, keys: KeySource, on picker: LoopPicker) {
        let now = clock.now
        let effects = state.withLock { state in
            state.keySources.count(keys)
            var request = features(of: parsed, &state)
            request.pool = state.routes.pool(asked: parsed.authority) ?? destinationPool
            observer.arrived(request, at: now)
            if PodlessRequests.isNeeded(state.fleet), let deadline = state.waiting.add(request, at: now) {
                return Effects(podlessDeadline: deadline)
            }
            let began = MonotonicTime.current
            let effects = handle(.arrived(request), &state, now)
            let spent = MonotonicTime.current.nanoseconds &- began.nanoseconds
            observer.decided(in: Seconds(Double(spent) * 1e-9))
            return effects
        }
        perform(effects, on: picker)
    }

    private func features(of parsed: ParsedRequest, _ state: inout State) -> InferenceRequest {
        let priority = state.rules.priority(objective: parsed.objective, model: parsed.model)
        guard !state.rules.splits.isEmpty else {
            return RequestFeatures.request(from: parsed, priority: priority, lengths: state.router)
        }
        let served = RequestRewrite.apply(state.rules, to: parsed) { state.rewritten[parsed.id] = $0 }
        return RequestFeatures.request(from: served, priority: priority, lengths: state.router)
    }

    func firstToken(_ id: RequestID, on picker: LoopPicker) {
        let now = clock.now
        let effects = state.withLock { state in
            observer.firstToken(id, at: now)
            return handle(.firstToken(id), &state, now)
        }
        perform(effects, on: picker)
    }

    func served(_ id: RequestID, _ served: Served) { observed(.served(id, served)) }

    /// `forecast`: what came with the verdict, where the request was routed.
    func ended(_ id: RequestID, _ outcome: Outcome, _ forecast: CacheForecast?, on picker: LoopPicker) {
        let now = clock.now
        let known = forecast?.known(outcome) ?? outcome
        let effects = state.withLock { state in
            observer.ended(id, outcome, at: now)
            if !state.rewritten.isEmpty { state.rewritten.removeValue(forKey: id) }
            if state.waiting.count > 0 { state.waiting.remove(id) }
            return handle(.ended(id, known), &state, now)
        }
        forecast?.compare(outcome, prefixes)
        perform(effects, on: picker)
    }

    // MARK: - From the control plane

    /// What the cluster says of requests. Objectives of the configuration count where the cluster has none of their name.
    func take(_ rules: RequestRules) {
        var rules = rules
        rules.objectives.merge(priorities) { inCluster, _ in inCluster }
        state.withLock { $0.rules = rules }
    }

    /// Which pool a gateway's call is for.
    func take(_ routes: RoutePools) { state.withLock { $0.routes = routes } }

    func fleetChanged(_ snapshot: FleetSnapshot) {
        prefixes.fleetChanged(snapshot)
        let now = clock.now
        let (effects, gone) = state.withLock { state in
            let before = state.fleet.map(\.endpoint.id)
            state.endpoints = Dictionary(
                snapshot.endpoints.map { ($0.endpoint.id, Place($0.endpoint)) },
                uniquingKeysWith: { first, _ in first }
            )
            state.fleet = snapshot.endpoints
            observer.fleetChanged(snapshot)
            let gone = before.filter { state.endpoints[$0] == nil }
            var effects = handle(.fleetChanged(snapshot), &state, now)
            if !PodlessRequests.isNeeded(snapshot.endpoints) {
                for request in state.waiting.takeAll() {
                    let more = handle(.arrived(request), &state, now)
                    effects.add(more)
                    effects.wakeAt = more.wakeAt ?? effects.wakeAt
                }
            }
            return (effects, gone)
        }
        // Again: up to this moment decisions could still choose them, and the index learned them anew.
        for id in gone { prefixes.forget(id) }
        perform(effects, on: nil)
    }

    /// What scrapes said between snapshots.
    func fleetEvents(_ events: [FleetMachine.Event]) {
        for event in events {
            switch event {
            case .observed(let id, let observation, _):
                if let growth = phases.withLock({ $0.growth(id, observation) }) {
                    observed(.phasesObserved(id, growth))
                }
                if prefixes.observed(observation, at: id) { restarted(id) }
            case .restarted(let id):
                phases.withLock { $0.forget(id) }
                restarted(id)
            case .left(let id):
                phases.withLock { $0.forget(id) }
                prefixes.forget(id)
            }
        }
    }

    private func restarted(_ id: EndpointID) {
        prefixes.restarted(id)
        engineRestarted(id)
    }

    func observed(_ event: RouterEvent) {
        let now = clock.now
        perform(state.withLock { handle(event, &$0, now) }, on: nil)
    }

    /// What the Router holds now: for metrics and debug pages.
    var summary: RouterSummary { state.withLock { $0.router.summary(at: clock.now) } }

    /// All that was learned.
    var calibrationState: CalibrationState { state.withLock { $0.router.calibrationState } }
    /// Requests that wait for a first pod.
    var requestsWithoutPods: Int { state.withLock { $0.waiting.count } }

    /// Where the keys of requests came from.
    var keySources: KeySourceCounts { state.withLock { $0.keySources } }

    /// What each endpoint's observations have taught, in the order of ids.
    var calibrators: [(name: String, calibrator: PodCalibrator)] { state.withLock { $0.router.calibratorsByName } }

    /// Gives the Router what an earlier process had learned.
    func restore(_ saved: CalibrationState) { state.withLock { $0.router.restore(saved) } }

    /// The fleet as the last snapshot told it, in the order of ids.
    var fleetNow: [EndpointStatus] { state.withLock { $0.fleet } }

    // MARK: - Actions

    /// A timer that is so late was lost with its loop.
    private static let lostTimer = Seconds(1)

    private func handle(_ event: consuming RouterEvent, _ state: inout State, _ now: Instant) -> Effects {
        if !state.actions.isEmpty { state.actions.removeAll(keepingCapacity: true) }
        state.router.handle(consume event, at: now, into: &state.actions)
        var effects = Effects()
        for index in state.actions.indices {
            switch state.actions[index] {
            case .dispatch(let id, let decision):
                effects.add(dispatch(id, decision, &state))
            case .refuse(let id, let refusal):
                state.rewritten[id] = nil
                observer.refused(id, refusal, records: state.router.takeRecords())
                effects.add(Answer(request: id, verdict: .answer(RefusalAnswer.answer(to: refusal))))
            case .wake(let at):
                // One timer is enough: each tick asks for the next.
                if let armed = state.wakeAt, armed <= at, now - armed < Self.lostTimer { continue }
                state.wakeAt = at
                effects.wakeAt = at
            }
        }
        // What was only watched is neither dispatched nor refused.
        let records = state.router.takeRecords()
        if !records.isEmpty { observer.recorded(records) }
        return effects
    }

    private func dispatch(_ id: RequestID, _ decision: Decision, _ state: inout State) -> Answer {
        guard let route = route(of: decision, for: id, &state) else {
            // The fleet changed between the choice and this line: impossible while both are under one lock.
            assertionFailure("a decision named an endpoint that the snapshot does not hold")
            return Answer(
                request: id,
                verdict: .answer(RefusalAnswer.answer(to: .noEndpoint(reason: "the chosen endpoint left")))
            )
        }
        observer.dispatched(id, decision, records: state.router.takeRecords())
        let forecast = CacheForecast(
            decision,
            trust: prefixes.trust(in: decision.placement.prefiller),
            pairsReportPrefill: pairsReportPrefill
        )
        return Answer(request: id, verdict: .route(route), forecast: forecast)
    }

    /// - Returns: nil where the destination is gone.
    private func route(of decision: Decision, for id: RequestID, _ state: inout State) -> Route? {
        guard let place = state.endpoints[decision.placement.destination] else { return nil }
        let rewriteModel = state.rewritten.isEmpty ? nil : state.rewritten.removeValue(forKey: id)
        if rewriteModel == nil, !decision.placement.isPair, decision.pullFrom == nil, decision.fallbacks.isEmpty,
            decision.enginePriority == nil, !tellsDecisions
        {
            return place.route
        }
        var destinations = place.route.destinations
        for fallback in decision.fallbacks {
            if let place = state.endpoints[fallback] { destinations.append(place.hostPort) }
        }
        var prefiller: String?
        if case .pair(let prefill, _) = decision.placement { prefiller = state.endpoints[prefill]?.hostPort }
        return Route(
            destinations: destinations,
            prefiller: prefiller,
            kvSource: decision.pullFrom.flatMap { state.endpoints[$0]?.hostPort },
            rewriteModel: rewriteModel,
            enginePriority: decision.enginePriority,
            decision: tellsDecisions ? DecisionHeader.text(of: decision) { state.endpoints[$0]?.name } : nil
        )
    }

    private func perform(_ effects: Effects, on current: LoopPicker?) {
        if let first = effects.first { deliver(first, from: current) }
        for answer in effects.others { deliver(answer, from: current) }
        if let at = effects.wakeAt { wake(at: at) }
        if let at = effects.podlessDeadline {
            pickers.withLock { $0.first ?? nil }?.schedule(after: clock.wall(max(at - clock.now, .zero))) { [self] in
                endWaits()
            }
        }
    }

    private func deliver(_ answer: Answer, from current: LoopPicker?) {
        let loop = RequestNumbers.loop(of: answer.request)
        if let current, current.loopIndex == loop { return current.deliver(answer, from: current) }
        let owner = pickers.withLock { $0.indices.contains(loop) ? $0[loop] : nil }
        owner?.deliver(answer, from: current)
    }

    /// Requests for which no pod came in time are refused, as they would have been at once.
    private func endWaits() {
        let now = clock.now
        let effects = state.withLock { state in
            var effects = Effects()
            for request in state.waiting.takeOverdue(at: now) {
                effects.add(handle(.arrived(request), &state, now))
            }
            return effects
        }
        perform(effects, on: nil)
    }

    private func wake(at: Instant) {
        let wall = clock.wall(max(at - clock.now, .zero))
        pickers.withLock { $0.first ?? nil }?.schedule(after: wall) { [self] in tick(askedFor: at) }
    }

    /// A timer that an earlier one has overtaken says nothing: the Router's next wake is armed.
    private func tick(askedFor at: Instant) {
        let now = clock.now
        let effects = state.withLock { state -> Effects? in
            guard state.wakeAt == at else { return nil }
            state.wakeAt = nil
            return handle(.tick, &state, now)
        }
        if let effects { perform(effects, on: nil) }
    }
}
