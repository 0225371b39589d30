// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import PrefixIndex
package import Router

/// The model servers of a run. A class, so that the pickers' index can look into the pods' caches.
///
/// `@unchecked Sendable`: `PrefixAnswers` asks its implementations to be `Sendable`, and one of those reads this. Both
/// are made, used and dropped by the one thread that runs the simulation.
final class ServerFarm: @unchecked Sendable {
    var servers: [ModelServer]
    /// What the pickers have been told of each pod's cached blocks. nil: they see the truth.
    var reported: [Set<UInt64>]?

    init(servers: [ModelServer], hasReports: Bool) {
        self.servers = servers
        reported = hasReports ? Array(repeating: [], count: servers.count) : nil
    }

    @inline(__always)
    func holds(_ hash: UInt64, _ server: Int) -> Bool {
        reported.map { $0[server].contains(hash) } ?? (servers[server].cache.find(hash) != nil)
    }
}

/// What one picker knows of prefixes: the pods' caches, and the blocks of prompts that it has sent and that are not
/// computed yet.
///
/// `@unchecked Sendable`: see `ServerFarm`.
package final class SimulatedPrefixes: PrefixAnswers, @unchecked Sendable {
    private let farm: ServerFarm
    private let blockSize: Int
    private let ids: [EndpointID]
    private let indexOf: [EndpointID: Int]
    /// Per pod: prompts under way that will leave the block there.
    private var pending: [[UInt64: Int]]

    init(farm: ServerFarm, blockSize: Int, endpoints: [Endpoint]) {
        self.farm = farm
        self.blockSize = blockSize
        ids = endpoints.map(\.id)
        indexOf = Dictionary(uniqueKeysWithValues: endpoints.enumerated().map { ($1.id, $0) })
        pending = Array(repeating: [:], count: endpoints.count)
    }

    package func holders(of keys: PrefixKeys, into result: inout [PrefixHolding]) {
        result.removeAll(keepingCapacity: true)
        guard !keys.hashes.isEmpty else { return }
        for pod in ids.indices {
            var blocks = 0
            let waits = pending[pod]
            for hash in keys.hashes {
                guard farm.holds(hash, pod) || (!waits.isEmpty && waits[hash] != nil) else { break }
                blocks += 1
            }
            if blocks > 0 { result.append(PrefixHolding(endpoint: ids[pod], tokens: blocks * blockSize)) }
        }
    }

    package func learn(_ keys: PrefixKeys, at endpoint: EndpointID) {
        guard let pod = indexOf[endpoint] else { return }
        for hash in keys.hashes { pending[pod][hash, default: 0] += 1 }
    }

    /// The prompt is computed, or never will be: its blocks are no longer pending.
    func settle(_ hashes: [UInt64], pod: Int) {
        guard !pending[pod].isEmpty else { return }
        for hash in hashes {
            guard let count = pending[pod][hash] else { continue }
            pending[pod][hash] = count > 1 ? count - 1 : nil
        }
    }

    /// All pending knowledge of a pod is void.
    func forget(pod: Int) { pending[pod] = [:] }
}
