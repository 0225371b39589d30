// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// One endpoint as a decision saw it.
package struct PodView: Sendable, Hashable, Codable {
    package var name: String
    package var accelerator: String
    /// Tokens of the prompt's start that the index said it holds.
    package var held: Int
    package var mayPrefill: Bool
    package var mayDecode: Bool
    /// Why it may not take the part that its role gives it.
    package var ineligible: Ineligibility?
    package var state: PodState
    /// What it would load of the prompt's start from a shared store, and what that is called.
    package var stored: StoredPrefix?
    package var storeName: String?
    /// What it must do for the request's LoRA adapter.
    package var adapter: AdapterNeed?
}

/// All that one decision saw: self-contained, so that it can be replayed anywhere. Holds no prompt text and no hashes.
package struct DecisionInput: Sendable, Hashable, Codable {
    package var now: Instant
    /// 53 bits, so that every JSON reader keeps them.
    package var draw: UInt64
    package var request: RequestFacts
    package var dials: Dials
    package var settings: CostSettings
    package var surroundings: Surroundings
    package var layouts: [KVLayout]
    package var connectors: [Connector]
    package var pods: [PodView]
    /// What was learned of transfers. nil = nothing.
    package var transferCosts: [TransferCost]?
    /// Links between pods that stand apart. nil = they are as those between any.
    package var network: NetworkTopology?

    /// The frame that the search walked.
    package var frame: DecisionFrame {
        var frame = DecisionFrame(
            states: pods.map(\.state),
            held: pods.map(\.held),
            prefills: pods.indices.filter { pods[$0].mayPrefill },
            decodes: pods.indices.filter { pods[$0].mayDecode },
            links: KVLinks(layouts: layouts, connectors: connectors, network: network ?? .flat),
            surroundings: surroundings
        )
        frame.transferCosts = TransferCosts(transferCosts ?? [])
        if pods.contains(where: { $0.stored != nil }) { frame.stored = pods.map(\.stored) }
        if pods.contains(where: { $0.adapter != nil }) { frame.adapters = pods.map(\.adapter) }
        return frame
    }

    /// The choice, as a pure function of this value.
    package func choose() -> Candidate? {
        var search = DecisionSearch()
        return search.best(for: request, in: frame, dials: dials, settings: settings, draw: draw)
    }

    /// Every candidate, cheapest first, ineligible ones last.
    package func ranked() -> [Candidate] {
        var search = DecisionSearch()
        return search.ranked(for: request, in: frame, dials: dials, settings: settings, draw: draw)
    }
}

/// One line of the decision log.
package struct DecisionRecord: Sendable, Hashable, Codable {
    package var input: DecisionInput
    /// nil where no candidate was left, and where load alone decided.
    package var chosen: Candidate?
    /// Why the request was refused.
    package var refusal: Refusal?
    /// For a request without an inference: what load alone decided by.
    package var byLoad: LoadChoice?
    /// The place among the input's pods that load alone chose.
    package var placedByLoad: Int?
    /// Where another picker sent the request, and this one only watched.
    package var shadow: ShadowRecord?

    package init(input: DecisionInput, chosen: Candidate?) {
        self.input = input
        self.chosen = chosen
    }

    /// True when replaying gives the same choice, and every term of it to the last bit.
    package var replays: Bool {
        if let byLoad { return byLoad.choice == placedByLoad }
        switch refusal {
        // Refused without a look at the candidates.
        case .shed, .unknownModel: return chosen == nil
        case .noEndpoint, nil: return input.choose() == chosen
        }
    }
}
