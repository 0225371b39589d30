// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex
import Router
import TestSupport
import Testing

@testable import Simulation

struct BlockHoldersTests {
    private func pods(_ holders: BlockHolders, _ hash: UInt64) -> [Int] {
        var set = [UInt64](repeating: 0, count: holders.words)
        holders.add(hash, to: &set)
        return (0..<holders.words * 64).filter { set[$0 >> 6] & (1 << UInt64($0 & 63)) != 0 }
    }

    @Test("Against a set per block", arguments: [3, 64, 200])
    func itFollowsEveryChange(count: Int) {
        var random = SplitMix64(seed: UInt64(count))
        var holders = BlockHolders(pods: count)
        var naive: [UInt64: Set<Int>] = [:]
        for step in 0..<30_000 {
            // Few blocks that nearly all pods get, and many that few get.
            let hash = random.next() % (random.next() % 4 == 0 ? 8 : 400) &* 0x1_0000_0000
            let pod = Int(random.next() % UInt64(count))
            if random.next() % 5 < (step < 20_000 ? 3 : 1) {
                holders.insert(hash, pod: pod)
                naive[hash, default: []].insert(pod)
            } else {
                holders.remove(hash, pod: pod)
                naive[hash]?.remove(pod)
                if naive[hash]?.isEmpty ?? false { naive[hash] = nil }
            }
            if step % 9_973 == 0 {
                holders.removeAll(pod: pod)
                naive = naive.mapValues { $0.subtracting([pod]) }.filter { !$0.value.isEmpty }
            }
            guard step % 101 == 0 else { continue }
            #expect(holders.count == naive.count)
            #expect(pods(holders, hash) == (naive[hash] ?? []).sorted())
        }
        for hash in naive.keys { #expect(pods(holders, hash) == naive[hash]?.sorted()) }
    }

    @Test("Cached blocks and pending ones together, without a hole, in the fleet's order")
    func aPromptIsFoundWhereAllItsBlocksAre() {
        let endpoints = Scene.fleet(prefill: 60, decode: 10)
        var random = SplitMix64(seed: 4)
        let configuration = ModelServerConfiguration(profile: endpoints[0].profile)
        let servers = endpoints.indices.map { ModelServer(configuration: configuration, seed: UInt64($0)) }
        let farm = ServerFarm(servers: servers, hasReports: true)
        let prefixes = SimulatedPrefixes(farm: farm, blockSize: 16, endpoints: endpoints)
        var cached = [Set<UInt64>](repeating: [], count: endpoints.count)
        var pending = [[UInt64: Int]](repeating: [:], count: endpoints.count)
        let all = Array(1...12) as [UInt64]
        for step in 0..<4_000 {
            let pod = Int(random.next() % UInt64(endpoints.count))
            let hashes = Array(all.prefix(Int(1 + random.next() % 12)))
            switch random.next() % 4 {
            case 0:
                prefixes.learn(keys(hashes), at: endpoints[pod].id)
                for hash in hashes { pending[pod][hash, default: 0] += 1 }
            case 1:
                prefixes.settle(hashes, pod: pod)
                for hash in hashes {
                    if let count = pending[pod][hash] { pending[pod][hash] = count > 1 ? count - 1 : nil }
                }
            case 2:
                for hash in hashes { farm.reported.insert(hash, pod: pod) }
                cached[pod].formUnion(hashes)
            default:
                farm.reported.remove(hashes[hashes.count - 1], pod: pod)
                cached[pod].remove(hashes[hashes.count - 1])
            }
            guard step % 50 == 0 else { continue }
            var found: [PrefixHolding] = []
            prefixes.holders(of: keys(hashes), into: &found)
            let expected = endpoints.indices.compactMap { pod -> PrefixHolding? in
                let blocks = hashes.prefix { cached[pod].contains($0) || pending[pod][$0] != nil }.count
                return blocks > 0 ? PrefixHolding(endpoint: endpoints[pod].id, tokens: blocks * 16) : nil
            }
            #expect(found == expected)
        }
    }

    private func keys(_ hashes: [UInt64]) -> PrefixKeys {
        PrefixKeys(kind: .tokens, tokensPerBlock: 16, hashes: hashes)
    }
}
