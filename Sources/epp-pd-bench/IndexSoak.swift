// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Foundation
import PrefixIndex

/// `epp-pd-bench index-soak`: pods that come, fill, evict, restart and go, for many rounds; the resident size must stay flat.
struct IndexSoak: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "index-soak",
        abstract: "Churn pods through the prefix index and watch the resident size.",
        discussion: """
            Each round adds pods, lets them store prompts, evict a part, restart or leave. Exit codes: 0, 1 when the \
            resident size of the last third exceeds that of the second by more than a twentieth, or the budget was broken.
            """
    )

    @Option(help: "Rounds.") var rounds = 300
    @Option(help: "Pods alive at a time.") var pods = 64
    @Option(help: "Prompts of 128 blocks stored in each round.") var prompts = 400
    @Option(help: "Byte budget of the index, in MiB.") var budget = 16
    @Flag(help: "Print one JSON object.") var json = false

    struct Report: Encodable {
        var rounds = 0
        var stored_blocks = 0
        var removed_blocks = 0
        var evicted_blocks = 0
        var pods_seen = 0
        var restarts = 0
        var resident_growth_bytes_second_third = 0
        var resident_growth_bytes_last_third = 0
        var index_bytes = 0
        var budget_bytes = 0
    }

    func validate() throws {
        guard rounds >= 9, pods > 0, prompts > 0, (8...65_536).contains(budget) else {
            throw ValidationError("rounds from 9, pods and prompts from 1, budget 8…65536")
        }
    }

    func run() throws {
        let index = try EventPrefixIndex(budget: budget << 20)
        let before = Measurement.resident
        var random = WorkloadRandom(11)
        var report = Report()
        report.rounds = rounds
        report.budget_bytes = budget << 20
        var alive = (0..<pods).map { UInt32($0) }
        var next = UInt32(pods)
        var most = [0, 0, 0]
        for round in 0..<rounds {
            churn(index, &alive, &next, &report, &random, round: round)
            while index.maintain(now: Double(round)) {}
            let third = round * 3 / rounds
            most[third] = max(most[third], Measurement.resident - before)
            report.index_bytes = max(report.index_bytes, index.statistics.trie.bytes)
        }
        let outcome = index.statistics.outcome
        report.stored_blocks = outcome.storedBlocks + outcome.repeatedBlocks
        report.removed_blocks = outcome.removedBlocks
        report.evicted_blocks = index.statistics.trie.evictedBlocks
        report.pods_seen = Int(next)
        report.resident_growth_bytes_second_third = most[1]
        report.resident_growth_bytes_last_third = most[2]
        let encoder = JSONEncoder()
        encoder.outputFormatting = json ? [.sortedKeys] : [.sortedKeys, .prettyPrinted]
        print(String(decoding: try encoder.encode(report), as: UTF8.self))
        // Some pages are the allocator's, whatever the index does.
        let isFlat = most[2] <= most[1] + most[1] / 20 + (1 << 20)
        guard isFlat, report.index_bytes <= budget << 20 else { throw ExitCode(1) }
    }

    private func churn(
        _ index: EventPrefixIndex,
        _ alive: inout [UInt32],
        _ next: inout UInt32,
        _ report: inout Report,
        _ random: inout WorkloadRandom,
        round: Int
    ) {
        let workload = IndexWorkload(workers: pods, prompts: Int.max, blocks: 128, sharedBlocks: 16, replicas: 1)
        for number in 0..<prompts {
            let prompt = round * prompts + number
            let source = EventSourceID(holder: alive[Int(random.next() % UInt64(alive.count))], rank: 0)
            _ = index.apply(workload.payload(prompt), from: source)
            guard number % 3 == 0 else { continue }
            var encoder = KVEventEncoder()
            encoder.removed(Array(workload.hashes(prompt).suffix(Int(random.next() % 112))))
            if !encoder.isEmpty { _ = index.apply(encoder.batch(time: 0), from: source) }
        }
        // A pod leaves and another comes; one restarts; one loses messages.
        let leaving = Int(random.next() % UInt64(alive.count))
        index.remove(holder: alive[leaving])
        alive[leaving] = next
        next &+= 1
        index.clear(EventSourceID(holder: alive[Int(random.next() % UInt64(alive.count))], rank: 0))
        report.restarts += 1
        index.doubt(EventSourceID(holder: alive[Int(random.next() % UInt64(alive.count))], rank: 0), now: Double(round))
    }
}
