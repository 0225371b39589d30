// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Glibc
import HeapModule
import PrefixIndex
import Router

/// A fleet in full work around one Router, on a virtual clock: predicted times come true within a fifth.
struct DecideWorld {
    private enum Event {
        case arrival, tick
        case firstToken(RequestID), end(RequestID)

        var name: String {
            switch self {
            case .arrival: "arrived"
            case .tick: "tick"
            case .firstToken: "first token"
            case .end: "ended"
            }
        }
    }

    private struct Due: Comparable {
        var at: Double
        /// No two are the same.
        var order: Int
        var event: Event

        static func == (a: Due, b: Due) -> Bool { a.order == b.order }
        static func < (a: Due, b: Due) -> Bool { (a.at, a.order) < (b.at, b.order) }
    }

    private static let names = ["arrived", "first token", "ended", "tick"]

    private let binding: Binding
    private let pods: Int
    private let wanted: Int
    private let blocks: Int
    private var random: WorkloadRandom
    private var router: Router
    private let learned: LearnedPrefixes
    private var now = 0.0
    private var wake = Double.infinity
    private var due = Heap<Due>()
    private var pushed = 0
    private var nextID: UInt64 = 0
    private var actions: [RouterAction] = []
    private var decisions: [RequestID: Decision] = [:]
    /// Prompts dispatched whose first token has not come.
    private var computing = 0
    private var queued = 0
    private var placed = 0

    private var isMeasuring = false
    private var samples: [String: Samples] = [:]
    private var all = Samples(capacity: 0)
    private var spent: UInt64 = 0
    private var placedBefore = 0
    private var waitingSum = 0.0
    private var arrivals = 0.0

    init(binding: Binding, pods: Int, waiting: Int, blocks: Int, seed: UInt64) throws {
        self.binding = binding
        self.pods = pods
        wanted = waiting
        self.blocks = blocks
        random = WorkloadRandom(seed)
        learned = try LearnedPrefixes()
        let level = ServiceLevelRule(
            ttftBase: Seconds(1),
            ttftPerPromptToken: Seconds(0.000_25),
            tpot: Seconds(0.05)
        )
        router = Router(
            options: RouterOptions(binding: binding, serviceLevel: level),
            prefixes: learned,
            seed: seed
        )
        router.handle(.fleetChanged(DecideFleet.snapshot(pods: pods)), at: Instant(0), into: &actions)
        push(0, .arrival)
    }

    // MARK: - Running

    mutating func startMeasuring(requests: Int) {
        isMeasuring = true
        placedBefore = placed
        for name in Self.names { samples[name] = Samples(capacity: 2 * requests) }
        all = Samples(capacity: 8 * requests)
    }

    mutating func run(requests: Int) {
        let last = placed + requests
        while placed < last, let next = due.popMin() {
            now = max(now, next.at)
            perform(next.event)
        }
    }

    /// Prompts that wait to be computed: in the queue, or with early binding behind those that the pods compute.
    private var waiting: Int { binding == .late ? queued : max(computing - pods, 0) }

    private mutating func perform(_ event: Event) {
        switch event {
        case .arrival:
            // The next one comes at once while fewer wait than shall, else when a prompt has been computed.
            guard waiting < wanted else { return push(now + 0.001, .arrival) }
            let request = request()
            queued += 1
            waitingSum += Double(waiting)
            arrivals += 1
            send(.arrived(request), event)
            push(now + 0.000_1 * Double.random(in: 0.5...1.5, using: &random), .arrival)
        case .tick:
            // Overtaken by an earlier one.
            guard wake <= now else { return }
            wake = .infinity
            send(.tick, event)
        case .firstToken(let id):
            computing -= 1
            send(.firstToken(id), event)
        case .end(let id):
            guard let decision = decisions.removeValue(forKey: id) else { return }
            let outcome = Outcome(
                kind: .completed,
                status: 200,
                promptTokens: 16 * blocks,
                cachedTokens: decision.predictedCachedTokens,
                outputTokens: 200
            )
            send(.ended(id, outcome), event)
        }
    }

    private mutating func send(_ event: RouterEvent, _ cause: Event) {
        actions.removeAll(keepingCapacity: true)
        let began = Measurement.processor
        router.handle(event, at: Instant(now), into: &actions)
        let took = UInt64(max(Measurement.processor - began, 0) * 1e9)
        if isMeasuring {
            samples[cause.name]?.add(took)
            all.add(took)
            spent += took
        }
        for action in actions {
            switch action {
            case .dispatch(let id, let decision): dispatched(id, decision)
            case .refuse: queued -= 1
            case .wake(let at):
                guard at.rawValue < wake else { continue }
                wake = at.rawValue
                push(wake, .tick)
            }
        }
    }

    private mutating func dispatched(_ id: RequestID, _ decision: Decision) {
        queued -= 1
        placed += 1
        computing += 1
        decisions[id] = decision
        let noise = Double.random(in: 0.8...1.2, using: &random)
        let first = now + max(decision.predictedTTFT.rawValue, 0.001) * noise
        push(first, .firstToken(id))
        push(first + 200 * decision.predictedTPOT.rawValue, .end(id))
    }

    /// One of 512 conversations: the first half of its blocks was seen before.
    private mutating func request() -> InferenceRequest {
        nextID += 1
        let family = UInt64.random(in: 0..<512, using: &random)
        let hashes = (0..<blocks).map { block in
            let owner = block < blocks / 2 ? family : 1 << 32 | nextID
            var hash = WorkloadRandom(owner &* 8_192 &+ UInt64(block))
            return hash.next()
        }
        return InferenceRequest(
            id: RequestID(nextID),
            model: "m",
            promptTokens: 16 * blocks - Int.random(in: 0..<(8 * blocks), using: &random),
            outputTokens: 200,
            streams: true,
            prefix: PrefixKeys(kind: .text, tokensPerBlock: 16, hashes: hashes)
        )
    }

    // MARK: - Results

    var result: DecideReport.Run {
        var events = [Self.row("all", all)]
        for name in Self.names {
            if let samples = samples[name], samples.count > 0 { events.append(Self.row(name, samples)) }
        }
        return DecideReport.Run(
            binding: binding.rawValue,
            prefill_pods: pods,
            decode_pods: pods,
            mean_waiting: waitingSum / max(arrivals, 1),
            us_per_request: Double(spent) / 1e3 / Double(max(placed - placedBefore, 1)),
            events: events
        )
    }

    private static func row(_ name: String, _ samples: Samples) -> DecideReport.Event {
        DecideReport.Event(
            name: name,
            count: samples.count,
            p50_us: Double(samples.quantile(0.5)) / 1e3,
            p99_us: Double(samples.quantile(0.99)) / 1e3,
            max_us: Double(samples.quantile(1)) / 1e3
        )
    }

    private mutating func push(_ at: Double, _ event: Event) {
        pushed += 1
        due.insert(Due(at: at, order: pushed, event: event))
    }
}

/// The index that learns from routing, as the Router asks for it.
final class LearnedPrefixes: PrefixAnswers {
    private let index: ApproximatePrefixIndex

    init() throws { index = try ApproximatePrefixIndex(budget: 1 << 30) }

    func holders(of keys: PrefixKeys, into result: inout [PrefixHolding]) {
        result.removeAll(keepingCapacity: true)
        var held: [HeldPrefix] = []
        index.holders(of: keys, into: &held)
        for one in held {
            let tokens = Int(Double(one.blocks) * keys.tokensPerBlock)
            result.append(PrefixHolding(endpoint: EndpointID(one.holder), tokens: tokens))
        }
    }

    func learn(_ keys: PrefixKeys, at endpoint: EndpointID) { index.learn(keys, holder: endpoint.rawValue) }
}
