// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import PrefixIndex
import Router
import Synchronization

/// What the picker knows of cached prefixes, as the Router asks for it.
final class PrefixKnowledge: PrefixAnswers {
    private let learned: ApproximatePrefixIndex
    /// Reused from lookup to lookup.
    private let found = Mutex<[HeldPrefix]>([])

    /// - Throws: `IndexMemoryError` where the address space for `bytes` cannot be had.
    init(bytes: Int) throws { learned = try ApproximatePrefixIndex(budget: bytes) }

    // MARK: - PrefixAnswers

    func holders(of keys: PrefixKeys, into result: inout [PrefixHolding]) {
        result.removeAll(keepingCapacity: true)
        found.withLock { found in
            learned.holders(of: keys, into: &found)
            for held in found {
                let tokens = Int(Double(held.blocks) * keys.tokensPerBlock)
                result.append(PrefixHolding(endpoint: EndpointID(held.holder), tokens: tokens))
            }
        }
    }

    func learn(_ keys: PrefixKeys, at endpoint: EndpointID) { learned.learn(keys, holder: endpoint.rawValue) }

    // MARK: - From the fleet

    /// What the engines' own caches hold bounds what is believed of them.
    func fleetChanged(_ snapshot: FleetSnapshot) {
        for status in snapshot.endpoints {
            guard let load = status.load, let blocks = load.kvBlocks, let size = load.kvBlockSize else { continue }
            let (tokens, overflow) = blocks.multipliedReportingOverflow(by: size)
            if !overflow { learned.setCapacity(tokens: tokens, holder: status.endpoint.id.rawValue) }
        }
    }

    /// The endpoint left, or its server is a new one, with an empty cache.
    func forget(_ endpoint: EndpointID) { learned.remove(holder: endpoint.rawValue) }

    /// Clears away a part of what is gone. True while there is more to do.
    func maintain() -> Bool { learned.maintain() }

    var statistics: PrefixIndexStatistics { learned.statistics }
}
