// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@testable import Simulation

struct ModelServerTests {
    private func server(
        _ batching: ModelServerConfiguration.Batching,
        capacity: Int = 100_000,
        ordering: ModelServerConfiguration.Ordering = .fifo,
        tokens: Bool = false,
        blocks: Bool = false
    ) -> ModelServer {
        ModelServer(
            configuration: ModelServerConfiguration(
                profile: .round(capacity: capacity),
                batching: batching,
                ordering: ordering,
                blockSize: 100,
                reportsTokens: tokens,
                reportsBlocks: blocks
            ),
            seed: 1
        )
    }

    @Test func wholePromptsAreServedFIFO() {
        var server = server(.wholePrompt)
        var events = server.submit(ServerJob(id: 1, promptTokens: 1000, outputTokens: 1), at: 0)
        events += server.submit(ServerJob(id: 2, promptTokens: 400, outputTokens: 1), at: 0.05)
        events += server.submit(ServerJob(id: 3, promptTokens: 100, outputTokens: 1), at: 0.06)
        #expect(server.load(at: Instant(0.06)).waiting == 2)
        events += server.run()
        #expect(isNear(events.time(of: .firstToken, job: 1), 0.110))
        #expect(isNear(events.time(of: .finished, job: 2), 0.110 + 0.050))
        #expect(isNear(events.time(of: .finished, job: 3), 0.160 + 0.020))
        #expect(server.isIdle && server.usedTokens == 0 && server.jobCount == 0)
        #expect(isNear(server.counters.busyTime.rawValue, 0.180))
    }

    @Test func priorityOvertakesTheQueueButNotTheRunning() {
        var server = server(.wholePrompt, ordering: .priority)
        var events = server.submit(ServerJob(id: 1, promptTokens: 1000, outputTokens: 1, priority: 9), at: 0)
        events += server.submit(ServerJob(id: 2, promptTokens: 400, outputTokens: 1, priority: 5), at: 0)
        events += server.submit(ServerJob(id: 3, promptTokens: 100, outputTokens: 1, priority: 1), at: 0)
        events += server.run()
        #expect(events.filter { $0.kind == .finished }.map(\.job) == [1, 3, 2])
    }

    @Test func decodeStepsGrowWithContextAndBatch() {
        // Alone: steps of 11 ms + 1 µs per token in KV. 1,000 tokens at first, one more each step.
        var server = server(.chunked(tokenBudget: 2048))
        let submitted = server.submit(ServerJob(id: 1, promptTokens: 1000, outputTokens: 4, source: .remote), at: 0)
        #expect(submitted.map(\.kind) == [.reserved(cachedTokens: 0)])
        let events = server.run()
        #expect(isNear(events.time(of: .firstToken, job: 1), 0.012))
        #expect(isNear(events.time(of: .finished, job: 1), 0.012 * 4 + (1 + 2 + 3) * 1e-6))
    }

    @Test func aComputedPromptYieldsItsFirstTokenAtTheEndOfPrefill() {
        var server = server(.chunked(tokenBudget: 2048))
        _ = server.submit(ServerJob(id: 1, promptTokens: 1000, outputTokens: 3), at: 0)
        let events = server.run()
        #expect(isNear(events.time(of: .firstToken, job: 1), 0.110))
        #expect(isNear(events.time(of: .finished, job: 1), 0.110 + 2 * 0.012 + 1e-6))
        #expect(server.counters.generationTokens == 3)
        #expect(server.counters.promptTokens == 1000)
    }

    @Test func chunksFillWhatDecodesLeaveOfTheBudget() {
        var server = server(.chunked(tokenBudget: 501))
        // One decode first, whose running leaves 500 tokens of each step to the prompt of 1,000.
        _ = server.submit(ServerJob(id: 1, promptTokens: 100, outputTokens: 50, source: .remote), at: 0)
        _ = server.run(to: 0.0001)
        _ = server.submit(ServerJob(id: 2, promptTokens: 1000, outputTokens: 1), at: 0.005)
        let events = server.run()
        // First step: 10 + 1 + 0.1 ms. Then two mixed steps of 10 ms + 501 × 0.1 ms + 1 ms.
        #expect(isNear(events.time(of: .firstToken, job: 2), 0.0111 + 2 * (0.010 + 0.0501 + 0.001)))
    }

    @Test func aStretchEqualsItsStepsTakenOneByOne() throws {
        var finishes: [[ServerEvent]] = []
        for tokens in [false, true] {
            var server = server(.chunked(tokenBudget: 512), tokens: tokens)
            var generator = SplitMix64(seed: 7)
            var events: [ServerEvent] = []
            for id in 1...40 as ClosedRange<UInt64> {
                let at = Double(id) * 0.037
                server.advance(to: Instant(at), into: &events)
                server.submit(
                    ServerJob(
                        id: id,
                        promptTokens: Int.random(in: 50...900, using: &generator),
                        outputTokens: Int.random(in: 1...200, using: &generator),
                        source: id % 3 == 0 ? .remote : .compute
                    ),
                    at: Instant(at),
                    into: &events
                )
            }
            server.advance(to: Instant(1e6), into: &events)
            finishes.append(events.filter { $0.kind == .finished || $0.kind == .firstToken })
        }
        #expect(finishes[0].count == 80)
        let (a, b) = (finishes[0].sorted { ($0.at, $0.job) < ($1.at, $1.job) }, finishes[1])
        let other = b.sorted { ($0.at, $0.job) < ($1.at, $1.job) }
        for (x, y) in zip(a, other) {
            #expect(x.job == y.job && x.kind == y.kind && abs(x.at.rawValue - y.at.rawValue) < 1e-6)
        }
    }

    @Test func tokensAreReportedOneByOne() {
        var server = server(.chunked(tokenBudget: 512), tokens: true)
        _ = server.submit(ServerJob(id: 1, promptTokens: 100, outputTokens: 5), at: 0)
        let counts = server.run().compactMap { event -> Int? in
            if case .token(let count) = event.kind { count } else { nil }
        }
        #expect(counts == [1, 2, 3, 4, 5])
    }

    @Test func prefixesAreFoundExceptTheLastBlock() {
        var server = server(.wholePrompt, blocks: true)
        let hashes: [UInt64] = [11, 12, 13]
        let first = server.submit(ServerJob(id: 1, promptTokens: 300, outputTokens: 1, promptHashes: hashes), at: 0)
        #expect(first.map(\.kind) == [.started(cachedTokens: 0)])
        let events = server.run()
        #expect(events.contains { $0.kind == .blocksStored(0..<3) })
        #expect(server.cachedTokens(of: hashes, promptTokens: 300) == 200)
        #expect(server.cachedTokens(of: hashes, promptTokens: 301) == 300)
        let again = server.submit(ServerJob(id: 2, promptTokens: 300, outputTokens: 1, promptHashes: hashes), at: 1)
        #expect(again.map(\.kind) == [.started(cachedTokens: 200)])
        #expect(isNear(server.run().time(of: .finished, job: 2), 1 + 0.010 + 0.010))
        #expect(server.counters.prefixQueries == 600 && server.counters.prefixHits == 200)
    }

    @Test func leastRecentlyUsedBlocksGoTailFirst() {
        var server = server(.wholePrompt, capacity: 601, blocks: true)
        _ = server.submit(ServerJob(id: 1, promptTokens: 300, outputTokens: 1, promptHashes: [1, 2, 3]), at: 0)
        _ = server.submit(ServerJob(id: 2, promptTokens: 300, outputTokens: 1, promptHashes: [4, 5, 6]), at: 1)
        _ = server.run()
        let events = server.submit(ServerJob(id: 3, promptTokens: 200, outputTokens: 1, promptHashes: [7, 8]), at: 2)
        let removed = events.compactMap { event -> UInt64? in
            if case .blockRemoved(let hash) = event.kind { hash } else { nil }
        }
        #expect(removed == [3, 2])
        #expect(server.heldTokens(of: [1, 2, 3]) == 100)
        #expect(server.heldTokens(of: [4, 5, 6]) == 300)
    }

    @Test func outputBlocksServeTheNextTurn() {
        var server = server(.chunked(tokenBudget: 2048))
        let job = ServerJob(id: 1, promptTokens: 150, outputTokens: 151, promptHashes: [1], outputHashes: [2, 3])
        _ = server.submit(job, at: 0)
        _ = server.run()
        // 150 + 151 − 1 = 300 tokens are in KV: three blocks.
        #expect(server.heldTokens(of: [1, 2, 3, 4]) == 300)
        #expect(server.usedTokens == 0)
    }

    @Test func kvArrivesAfterMemoryIsReserved() {
        var server = server(.chunked(tokenBudget: 2048))
        let job = ServerJob(id: 1, promptTokens: 1000, outputTokens: 2, source: .remote, awaitsKV: true)
        #expect(server.submit(job, at: 0).map(\.kind) == [.reserved(cachedTokens: 0)])
        #expect(server.nextEvent == nil)
        #expect(server.load(at: Instant(0.1)).waiting == 1)
        var events: [ServerEvent] = []
        server.kvArrived(1, at: Instant(0.5), into: &events)
        events += server.run()
        #expect(isNear(events.time(of: .firstToken, job: 1), 0.512))
    }

    @Test func aPulledPrefixCountsAsCached() {
        var server = server(.wholePrompt)
        let hashes: [UInt64] = [1, 2, 3]
        var events = server.submit(
            ServerJob(id: 1, promptTokens: 350, outputTokens: 1, promptHashes: hashes, awaitsKV: true),
            at: 0
        )
        events += server.submit(ServerJob(id: 2, promptTokens: 100, outputTokens: 1), at: 0)
        #expect(events.map(\.job) == [2])
        events = []
        server.advance(to: Instant(0.1), into: &events)
        server.kvArrived(1, pulled: hashes[..<2], at: Instant(0.1), into: &events)
        #expect(events.last?.kind == .started(cachedTokens: 200))
    }

    @Test func memoryShortageMakesOthersWaitAndPreemptsTheLast() {
        var server = server(.chunked(tokenBudget: 2048), capacity: 1000)
        _ = server.submit(ServerJob(id: 1, promptTokens: 400, outputTokens: 300, source: .remote), at: 0)
        _ = server.submit(ServerJob(id: 2, promptTokens: 400, outputTokens: 300, source: .remote), at: 0)
        _ = server.submit(ServerJob(id: 3, promptTokens: 400, outputTokens: 10, source: .remote), at: 0)
        let events = server.run()
        #expect(events.filter { $0.kind == .preempted }.map(\.job) == [2])
        #expect(events.filter { $0.kind == .finished }.count == 3)
        #expect(events.filter { $0.kind == .firstToken }.count == 3)
        // The first decodes without pause; the second is computed again after the first has ended.
        #expect(server.usedTokens == 0 && server.decodeContext == 0 && server.counters.preemptions == 1)
        #expect((events.time(of: .finished, job: 1) ?? 0) < (events.time(of: .finished, job: 2) ?? 0))
    }

    @Test func whatCanNeverFitIsRejected() {
        var server = server(.wholePrompt, capacity: 1000)
        #expect(server.submit(ServerJob(id: 1, promptTokens: 999, outputTokens: 2), at: 0).map(\.kind) == [.rejected])
        #expect(server.submit(ServerJob(id: 2, promptTokens: 0, outputTokens: 2), at: 0).map(\.kind) == [.rejected])
        #expect(server.nextEvent == nil)
    }

    @Test func keptKVBlocksTheNextPromptUntilRelease() {
        var server = server(.wholePrompt, capacity: 1000)
        var events = server.submit(ServerJob(id: 1, promptTokens: 600, outputTokens: 1, keepsKV: true), at: 0)
        events += server.submit(ServerJob(id: 2, promptTokens: 600, outputTokens: 1), at: 0)
        events += server.run(to: 5)
        #expect(events.filter { $0.kind == .finished }.map(\.job) == [1])
        server.release(1, at: Instant(5), into: &events)
        events += server.run()
        #expect(isNear(events.time(of: .finished, job: 2), 5.070))
    }

    @Test(arguments: [0.0001, 0.06, 0.2, 0.31]) func aCancelledJobLeavesNothingBehind(at t: Double) {
        var server = server(.chunked(tokenBudget: 512))
        var events = server.submit(
            ServerJob(id: 1, promptTokens: 1000, outputTokens: 20, promptHashes: [1, 2]),
            at: 0
        )
        events += server.submit(ServerJob(id: 2, promptTokens: 1000, outputTokens: 20), at: 0)
        server.advance(to: Instant(t), into: &events)
        server.cancel(1, at: Instant(t), into: &events)
        server.cancel(99, at: Instant(t), into: &events)
        events += server.run()
        #expect(events.filter { $0.kind == .finished }.map(\.job) == [2])
        #expect(server.usedTokens == 0 && server.decodeContext == 0 && server.jobCount == 0)
    }

    @Test func aCrashLosesEverything() {
        var server = server(.chunked(tokenBudget: 512))
        _ = server.submit(ServerJob(id: 5, promptTokens: 1000, outputTokens: 20, promptHashes: [1]), at: 0)
        _ = server.submit(ServerJob(id: 4, promptTokens: 1000, outputTokens: 20), at: 0)
        _ = server.run(to: 0.3)
        #expect(server.crash() == [5, 4])
        #expect(server.nextEvent == nil && server.heldTokens(of: [1]) == 0)
        _ = server.submit(ServerJob(id: 6, promptTokens: 1000, outputTokens: 1), at: 1)
        #expect(server.run().contains { $0.kind == .finished })
    }
}
