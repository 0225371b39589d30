// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Fleet
import PrefixIndex
import Router
import Synchronization

/// What the picker knows of cached prefixes, as the Router asks for it: what routing taught, and what the engines' own
/// events say where they are subscribed to and the request's token ids are known.
final class PrefixKnowledge: PrefixAnswers {
    private let learned: ApproximatePrefixIndex
    private let told: EventPrefixIndex
    private let scratch = Mutex(Scratch())

    /// Reused from lookup to lookup.
    private struct Scratch {
        var learned: [HeldPrefix] = []
        var told: [TierMatch] = []
    }

    /// - Parameters:
    ///   - bytes: for both indexes together.
    ///   - told: fed by the engines' events.
    /// - Throws: `IndexMemoryError` where the address space cannot be had.
    init(bytes: Int, told: EventPrefixIndex) throws {
        learned = try ApproximatePrefixIndex(budget: bytes)
        self.told = told
    }

    // MARK: - PrefixAnswers

    func holders(of keys: PrefixKeys, into result: inout [PrefixHolding]) {
        holders(of: keys, tokens: nil, into: &result)
    }

    func holders(of keys: PrefixKeys, tokens: PrefixKeys?, into result: inout [PrefixHolding]) {
        result.removeAll(keepingCapacity: true)
        scratch.withLock { scratch in
            learned.holders(of: keys, into: &scratch.learned)
            for held in scratch.learned {
                let tokens = Int(Double(held.blocks) * keys.tokensPerBlock)
                result.append(PrefixHolding(endpoint: EndpointID(held.holder), tokens: tokens))
            }
            guard let tokens else { return }
            told.matches(of: tokens, into: &scratch.told)
            for match in scratch.told { Self.take(match, into: &result) }
        }
        result.sort { $0.endpoint < $1.endpoint }
    }

    /// The longest of what routing taught and what the engine says, over all tiers and ranks: events come a moment after
    /// the dispatch that causes them, and a cold prompt's siblings must find each other at once.
    private static func take(_ match: TierMatch, into result: inout [PrefixHolding]) {
        let endpoint = EndpointID(match.holder)
        guard let index = result.firstIndex(where: { $0.endpoint == endpoint }) else {
            result.append(PrefixHolding(endpoint: endpoint, tokens: match.tokens))
            return
        }
        result[index].tokens = max(result[index].tokens, match.tokens)
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
    func forget(_ endpoint: EndpointID) {
        learned.remove(holder: endpoint.rawValue)
        told.remove(holder: endpoint.rawValue)
    }

    /// Clears away a part of what is gone. True while there is more to do.
    ///
    /// - Parameter now: seconds of any clock that goes on.
    /// - Returns: true while there is more to clear away.
    func maintain(now: Double) -> Bool {
        let more = learned.maintain()
        return told.maintain(now: now) || more
    }

    var statistics: PrefixIndexStatistics { learned.statistics }
    var toldStatistics: EventIndexStatistics { told.statistics }
}
