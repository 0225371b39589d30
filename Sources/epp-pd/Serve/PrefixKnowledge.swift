// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
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
    /// Endpoints that have less than was believed, and how much of it they have.
    private let distrusted = Mutex<[EndpointID: Double]>([:])
    private let preemptionCounts = Mutex<[EndpointID: Double]>([:])

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
        for index in result.indices {
            let trust = trust(in: result[index].endpoint)
            if trust < 1 { result[index].tokens = Int(Double(result[index].tokens) * trust) }
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

    /// How far what is known of an endpoint is believed, 0…1: the share of the hits foretold that its engine then reported.
    func trust(in endpoint: EndpointID) -> Double { distrusted.withLock { $0[endpoint] } ?? 1 }

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

    /// A request has ended whose prompt was to be computed at `endpoint`, where `predicted` tokens were known to be held.
    /// `reported`: what its engine found there, nil where nobody says.
    func ended(at endpoint: EndpointID, promptTokens: Int, predicted: Int, reported: Int?) {
        learned.ended(
            holder: endpoint.rawValue,
            promptTokens: promptTokens,
            predicted: predicted,
            reported: reported
        )
        judge(endpoint)
    }

    /// A page of the engine's metrics.
    /// - Returns: true where its counters fell, which is a restart.
    func observed(_ seen: EngineObservation, at endpoint: EndpointID) -> Bool {
        if let preemptions = seen[.preemptions], preemptions.isFinite {
            let before = preemptionCounts.withLock { $0.updateValue(preemptions, forKey: endpoint) } ?? preemptions
            let growth = min(max(preemptions - before, 0), 1e6)
            learned.observePreemptions(holder: endpoint.rawValue, count: Int(growth))
        }
        guard let queries = seen[.prefixQueries], let hits = seen[.prefixHits] else { return false }
        let restarted = learned.observe(holder: endpoint.rawValue, queries: queries, hits: hits)
        judge(endpoint)
        return restarted
    }

    private func judge(_ endpoint: EndpointID) {
        let trust = learned.trust(holder: endpoint.rawValue)
        distrusted.withLock { distrusted in
            // Nearly always there is none, and nothing to take out.
            if trust < Self.goodTrust || !distrusted.isEmpty {
                distrusted[endpoint] = trust < Self.goodTrust ? trust : nil
            }
        }
    }

    /// Estimates of text and requests that overtake each other differ by some percent without anybody's fault.
    private static let goodTrust = 0.9

    /// The endpoint's server is a new one, with an empty cache. What its events say is theirs to forget: they may already
    /// be the new server's.
    func restarted(_ endpoint: EndpointID) {
        learned.remove(holder: endpoint.rawValue)
        distrusted.withLock { $0[endpoint] = nil }
        preemptionCounts.withLock { $0[endpoint] = nil }
    }

    /// The endpoint left.
    func forget(_ endpoint: EndpointID) {
        restarted(endpoint)
        told.remove(holder: endpoint.rawValue)
    }

    /// Clears away a part of what is gone. True while there is more to do.
    ///
    /// - Parameter now: seconds of the clock that the exact index's events come by.
    /// - Returns: true while there is more to clear away.
    func maintain(now: Double) -> Bool {
        let more = learned.maintain()
        return told.maintain(now: now) || more
    }

    var statistics: PrefixIndexStatistics { learned.statistics }
    /// Tokens to a key of the exact index.
    var unit: Int { told.unit }
    var feedbacks: [HitFeedback] { learned.feedbacks }
    var distrustedCount: Int { distrusted.withLock { $0.count } }
    var toldStatistics: EventIndexStatistics { told.statistics }
}
