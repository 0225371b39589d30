// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation
import TestSupport
import Testing

@testable import Router

/// Random events in random order, duplicates and unknown ids among them.
struct RouterPropertyTests {
    struct Run {
        var actions: [RouterAction] = []
        var router: Router
    }

    /// `check` is called after every event.
    static func run(seed: UInt64, options: RouterOptions, events: Int, check: (Router) -> Void = { _ in }) -> Run {
        var random = SplitMix64(seed: seed)
        var router = Router(options: options, prefixes: FakePrefixes(), seed: seed)
        var all: [RouterAction] = []
        var now = 0.0
        var open: [UInt64] = []
        var next: UInt64 = 1
        func send(_ event: RouterEvent) {
            var actions: [RouterAction] = []
            router.handle(event, at: Instant(now), into: &actions)
            all += actions
            check(router)
        }
        send(.fleetChanged(Pods.mixed))
        for _ in 0..<events {
            now += Double.random(in: 0...0.2, using: &random)
            let id = RequestID(open.randomElement(using: &random) ?? 0)
            switch Int.random(in: 0..<12, using: &random) {
            case 0..<4:
                send(.arrived(Self.anyRequest(next, &random)))
                open.append(next)
                next += 1
            case 4..<6: send(.firstToken(id))
            case 6..<9:
                let kind =
                    [Outcome.Kind.completed, .cancelled, .failed, .unreachable, .timedOut]
                    .randomElement(using: &random) ?? .completed
                let output = Int.random(in: -5...900, using: &random)
                send(.ended(id, Outcome(kind: kind, status: 500, promptTokens: 100, outputTokens: output)))
            case 9:
                let load = EndpointLoad(
                    observedAt: Instant(now),
                    waiting: Int.random(in: -3...10, using: &random),
                    running: Int.random(in: -3...300, using: &random),
                    kvUse: [0.5, .nan, -1, 7].randomElement(using: &random) ?? 0
                )
                send(.loadObserved(EndpointID(UInt32.random(in: 0...12, using: &random)), load))
            case 10: send(.tick)
            default: send(.fleetChanged(Self.anyFleet(&random)))
            }
        }
        send(.fleetChanged(Pods.mixed))
        for id in open.shuffled(using: &random) { send(.ended(RequestID(id), Outcome(kind: .completed))) }
        return Run(actions: all, router: router)
    }

    static func anyRequest(_ id: UInt64, _ random: inout SplitMix64) -> InferenceRequest {
        let odd = Int.random(in: 0..<20, using: &random) == 0
        return Pods.request(
            id,
            prompt: odd
                ? [0, -5, .max, 1 << 40].randomElement(using: &random) ?? 0
                : Int.random(in: 1...30_000, using: &random),
            output: odd ? [0, -5, .max].randomElement(using: &random) ?? 0 : Int.random(in: 1...900, using: &random),
            streams: Int.random(in: 0..<4, using: &random) > 0,
            priority: Int.random(in: -1...1, using: &random),
            level: ServiceLevel(ttft: Seconds(2), tpot: Seconds(0.05)),
            hashes: (0..<UInt64.random(in: 1...30, using: &random)).map { $0 },
            isInference: Int.random(in: 0..<10, using: &random) > 0
        )
    }

    static func anyFleet(_ random: inout SplitMix64) -> FleetSnapshot {
        var fleet = Pods.mixed
        for index in fleet.endpoints.indices {
            fleet.endpoints[index].unavailable =
                Int.random(in: 0..<6, using: &random) == 0 ? .unreachable : nil
        }
        if Bool.random(using: &random) { fleet.endpoints.remove(at: Int.random(in: 0..<9, using: &random)) }
        return fleet
    }

    static let bindings: [Binding] = [.early, .late]

    @Test(arguments: 0..<5, bindings) func ledgersAreNeverNegativeAndReturnToZero(seed: Int, binding: Binding) {
        let run = Self.run(seed: UInt64(seed), options: RouterOptions(binding: binding), events: 300) { router in
            for (ledger, state) in zip(router.ledgers, router.frame.states) {
                let sane =
                    ledger.inFlight >= 0 && ledger.promptTokens >= 0 && ledger.decodes.assigned >= 0
                    && ledger.decodes.decoding >= 0 && ledger.decodes.kvTokens >= 0
                    && ledger.prompts.backlog(at: router.now.rawValue) >= 0 && state.backlog >= 0
                    && state.batch >= 0 && state.kvTokens >= 0 && state.backlog.isFinite
                if !sane { Issue.record("seed \(seed): \(ledger)") }
            }
            if router.queue.bytes < 0 || router.queue.isEmpty != (router.queue.bytes == 0 && router.queue.count == 0) {
                Issue.record("seed \(seed): queue of \(router.queue.count) holds \(router.queue.bytes) bytes")
            }
        }
        #expect(run.router.inFlight.isEmpty && run.router.queue.isEmpty)
        #expect(run.router.counts.tokensInFlight == 0)
        for ledger in run.router.ledgers {
            #expect(ledger.isIdle && ledger.decodes.kvTokens == 0 && ledger.decodes.outstandingTokens == 0)
        }
    }

    /// Early: at once. Late: at most once, and whoever is left waiting at the end has left of its own.
    @Test(arguments: 0..<3, bindings) func everyRequestIsAnsweredOnce(seed: Int, binding: Binding) {
        let run = Self.run(seed: UInt64(seed), options: RouterOptions(binding: binding), events: 300)
        var answered: [RequestID: Int] = [:]
        for action in run.actions {
            switch action {
            case .dispatch(let id, _), .refuse(let id, _): answered[id, default: 0] += 1
            case .wake: break
            }
        }
        #expect(!answered.isEmpty && answered.values.allSatisfy { $0 == 1 })
    }

    /// Whatever is chosen could be chosen: its record says so, and replays.
    @Test(arguments: 0..<3, bindings) func theChosenPodsWereEligible(seed: Int, binding: Binding) {
        var options = RouterOptions(binding: binding)
        options.recordedShare = 1
        var run = Self.run(seed: UInt64(seed), options: options, events: 200)
        let records = run.router.takeRecords()
        #expect(!records.isEmpty)
        for record in records {
            guard let placement = record.chosen?.placement else { continue }
            let pods = record.input.pods
            let destination = pods.first { $0.state.id == placement.destination }
            let prefiller = pods.first { $0.state.id == placement.prefiller }
            #expect(destination?.mayDecode == true && destination?.ineligible == nil)
            if case .pair = placement { #expect(prefiller?.mayPrefill == true && prefiller?.ineligible == nil) }
            #expect(record.replays)
        }
    }

    @Test(arguments: 0..<2, bindings) func theSameEventsAndSeedGiveTheSameActions(seed: Int, binding: Binding) {
        let a = Self.run(seed: UInt64(seed), options: RouterOptions(binding: binding), events: 300)
        let b = Self.run(seed: UInt64(seed), options: RouterOptions(binding: binding), events: 300)
        #expect(a.actions == b.actions)
    }
}
