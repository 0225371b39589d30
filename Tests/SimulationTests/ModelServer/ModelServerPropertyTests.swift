// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@testable import Simulation

/// Whatever is thrown at a server: memory adds up, time moves forward, each job ends once.
struct ModelServerPropertyTests {
    @Test(arguments: 0..<60 as Range<UInt64>) func ledgersBalance(seed: UInt64) {
        var draw = SplitMix64(seed: seed)
        let chunked = Bool.random(using: &draw)
        var server = ModelServer(
            configuration: ModelServerConfiguration(
                profile: .round(capacity: Int.random(in: 1500...6000, using: &draw)),
                batching: chunked ? .chunked(tokenBudget: 256) : .wholePrompt,
                ordering: Bool.random(using: &draw) ? .priority : .fifo,
                blockSize: 16,
                maximumSequences: 8,
                prefillNoise: 0.2,
                decodeNoise: 0.1,
                reportsTokens: Bool.random(using: &draw)
            ),
            seed: seed
        )
        var events: [ServerEvent] = []
        var now = 0.0
        var (cancelled, waitingForKV): (Set<UInt64>, [UInt64]) = ([], [])
        for id in 1...150 as ClosedRange<UInt64> {
            now += Double.random(in: 0...0.1, using: &draw)
            server.advance(to: Instant(now), into: &events)
            check(server)
            let family = UInt64.random(in: 0...3, using: &draw) << 32
            let prompt = Int.random(in: 1...700, using: &draw)
            let remote = id % 2 == 0
            let awaits = Int.random(in: 0...3, using: &draw) == 0
            let job = ServerJob(
                id: id,
                promptTokens: prompt,
                outputTokens: Int.random(in: 1...120, using: &draw),
                promptHashes: (0..<UInt64(prompt / 16)).map { family | $0 + 1 },
                priority: Double.random(in: 0...9, using: &draw),
                source: remote ? .remote : .compute,
                awaitsKV: awaits
            )
            server.submit(job, at: Instant(now), into: &events)
            if awaits { waitingForKV.append(id) }
            if Int.random(in: 0...9, using: &draw) == 0 {
                let victim = UInt64.random(in: 1...id, using: &draw)
                if !events.contains(where: { $0.job == victim && $0.kind == .finished }) { cancelled.insert(victim) }
                server.cancel(victim, at: Instant(now), into: &events)
            }
            if let ready = waitingForKV.first, Bool.random(using: &draw) {
                waitingForKV.removeFirst()
                server.kvArrived(ready, at: Instant(now), into: &events)
            }
            check(server)
        }
        for id in waitingForKV { server.kvArrived(id, at: Instant(now), into: &events) }
        server.advance(to: Instant(1e9), into: &events)
        check(server)
        #expect(server.usedTokens == 0 && server.decodeContext == 0 && server.jobCount == 0)
        #expect(server.waiting.isEmpty && server.receiving == 0 && server.cache.referenced == 0)
        for (a, b) in zip(events, events.dropFirst()) { #expect(a.at <= b.at) }
        for id in 1...150 as ClosedRange<UInt64> where !cancelled.contains(id) {
            #expect(events.filter { $0.job == id && $0.kind == .finished }.count == 1)
            #expect(events.filter { $0.job == id && $0.kind == .firstToken }.count == 1)
        }
    }

    private func check(_ server: ModelServer) {
        let size = server.configuration.blockSize
        var privates = 0
        for slot in server.sequences.indices where server.sequences[slot].phase != .free {
            privates += server.privateTokens(of: slot)
        }
        #expect(server.usedTokens == privates + server.cache.referenced * size)
        #expect(server.usedTokens + server.cache.unreferenced * size <= server.configuration.capacityTokens)
        #expect(server.decoding.count + server.prefilling.count <= server.configuration.maximumSequences)
        for slot in server.sequences.indices { #expect(server.privateTokens(of: slot) >= 0) }
    }
}
