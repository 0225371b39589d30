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
    /// What the pickers have been told of cached blocks: by delayed reports, or the truth at once.
    var reported: BlockHolders
    /// News of cached blocks is delayed or lost; else `follow` keeps `reported` true.
    let hasReports: Bool

    init(servers: [ModelServer], hasReports: Bool) {
        self.servers = servers
        self.hasReports = hasReports
        reported = BlockHolders(pods: servers.count)
        guard !hasReports else { return }
        for server in self.servers.indices { self.servers[server].keepsCacheChanges = true }
    }

    /// Takes over what has changed in a server's cache since it was asked last.
    func follow(_ server: Int) {
        guard !hasReports else { return }
        for change in servers[server].cacheChanges {
            if change.isStored {
                reported.insert(change.hash, pod: server)
            } else {
                reported.remove(change.hash, pod: server)
            }
        }
        servers[server].forgetCacheChanges()
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
    /// The same by block.
    private var pendingHolders: BlockHolders
    /// Scratch: pods that have all blocks so far, pods that have the next one, and how many blocks each pod has.
    private var alive: [UInt64]
    private var next: [UInt64]
    private var depth: [Int]

    init(farm: ServerFarm, blockSize: Int, endpoints: [Endpoint]) {
        self.farm = farm
        self.blockSize = blockSize
        ids = endpoints.map(\.id)
        indexOf = Dictionary(uniqueKeysWithValues: endpoints.enumerated().map { ($1.id, $0) })
        pending = Array(repeating: [:], count: endpoints.count)
        pendingHolders = BlockHolders(pods: endpoints.count)
        alive = Array(repeating: 0, count: pendingHolders.words)
        next = alive
        depth = Array(repeating: 0, count: endpoints.count)
    }

    package func holders(of keys: PrefixKeys, into result: inout [PrefixHolding]) {
        result.removeAll(keepingCapacity: true)
        guard let first = keys.hashes.first else { return }
        load(first)
        swap(&alive, &next)
        let heads = alive
        var blocks = 1
        while blocks < keys.hashes.count, alive.contains(where: { $0 != 0 }) {
            load(keys.hashes[blocks])
            for word in alive.indices {
                mark(alive[word] & ~next[word], word, blocks)
                alive[word] &= next[word]
            }
            blocks += 1
        }
        for word in alive.indices { mark(alive[word], word, blocks) }
        for word in heads.indices {
            var rest = heads[word]
            while rest != 0 {
                let pod = word << 6 + rest.trailingZeroBitCount
                rest &= rest - 1
                result.append(PrefixHolding(endpoint: ids[pod], tokens: depth[pod] * blockSize))
            }
        }
    }

    /// Reads who has the block, or will have it, into `next`.
    private func load(_ hash: UInt64) {
        for word in next.indices { next[word] = 0 }
        farm.reported.add(hash, to: &next)
        pendingHolders.add(hash, to: &next)
    }

    private func mark(_ pods: UInt64, _ word: Int, _ blocks: Int) {
        var rest = pods
        while rest != 0 {
            depth[word << 6 + rest.trailingZeroBitCount] = blocks
            rest &= rest - 1
        }
    }

    package func learn(_ keys: PrefixKeys, at endpoint: EndpointID) {
        guard let pod = indexOf[endpoint] else { return }
        for hash in keys.hashes {
            pending[pod][hash, default: 0] += 1
            pendingHolders.insert(hash, pod: pod)
        }
    }

    /// The prompt is computed, or never will be: its blocks are no longer pending.
    func settle(_ hashes: [UInt64], pod: Int) {
        guard !pending[pod].isEmpty else { return }
        for hash in hashes {
            guard let count = pending[pod][hash] else { continue }
            pending[pod][hash] = count > 1 ? count - 1 : nil
            if count <= 1 { pendingHolders.remove(hash, pod: pod) }
        }
    }

    /// Blocks that are expected somewhere.
    var pendingCount: Int { pendingHolders.count }

    /// All pending knowledge of a pod is void.
    func forget(pod: Int) {
        pending[pod] = [:]
        pendingHolders.removeAll(pod: pod)
    }
}
