// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// A logged decision as a table that a person can read.
enum DecisionText {
    static func text(of record: DecisionRecord, candidates limit: Int) -> String {
        let input = record.input
        let stores = input.pods.compactMap { pod in pod.stored.map { ($0.store, pod.storeName ?? "store") } }
        let names = Dictionary(
            input.pods.map { ($0.state.id, $0.name) } + stores,
            uniquingKeysWith: { first, _ in first }
        )
        if let byLoad = record.byLoad { return self.text(of: record, byLoad) }
        let ranked = input.ranked()
        let choice = record.chosen.map { placement($0, names) } ?? record.refusal.map(reason) ?? "none"
        var text = "request \(input.request.id.rawValue)  model \(input.request.model ?? "-")"
        text += "  \(input.request.promptTokens) prompt tokens, \(input.request.outputTokens) expected"
        if input.request.waited > .zero { text += ", held \(Numbers.milliseconds(input.request.waited.rawValue)) ms" }
        text += "  → \(choice)\n"
        let dials = input.dials
        text += "  a second of waiting $\(dials.valueOfTime), "
        text += "a missed service level $\(dials.sloMissPrice.rawValue)\n"
        let places = Dictionary(
            input.pods.map { ($0.state.id, $0.state.place) },
            uniquingKeysWith: { first, _ in first }
        )
        text += table(Array(ranked.prefix(limit)), chosen: record.chosen, names, places)
        if let shadow = record.shadow { text += "\n  " + ShadowText.text(of: shadow, beside: record.chosen, names) }
        if ranked.count > limit { text += "\n  … and \(ranked.count - limit) more: --candidates shows them" }
        let needs = input.pods.compactMap { pod in pod.adapter.map { (pod.name, $0) } }
        if !needs.isEmpty {
            let states = needs.map { "\($0) \(adapter($1))" }
            text += "\n  adapter \(input.request.model ?? ""): " + states.joined(separator: ", ")
        }
        let excluded = input.pods.filter { $0.ineligible != nil }
        if !excluded.isEmpty {
            let reasons = excluded.map { "\($0.name) (\($0.ineligible?.rawValue ?? ""))" }
            text += "\n  left out: " + reasons.joined(separator: ", ")
        }
        return text + "\n"
    }

    /// A request that holds no inference: pods by their requests in flight.
    private static func text(of record: DecisionRecord, _ byLoad: LoadChoice) -> String {
        let pods = record.input.pods
        var table = TextTable([("", .left), ("pod", .left), ("requests", .right)])
        for (index, load) in byLoad.loads.enumerated() where pods.indices.contains(index) {
            guard let load else { continue }
            table.add([index == record.placedByLoad ? "*" : "", pods[index].name, Numbers.fixed(load, 0)])
        }
        let choice = record.placedByLoad.map { pods.indices.contains($0) ? pods[$0].name : "?" } ?? "none: no candidate"
        return "request \(record.input.request.id.rawValue)  no inference: by load  → \(choice)\n"
            + table.rendered(indent: 2) + "\n"
    }

    private static func adapter(_ need: AdapterNeed) -> String {
        switch need.state {
        case .loaded: "loaded"
        case .slotFree: "has a free slot (\(Numbers.milliseconds(need.delay)) ms)"
        case .slotsFull: "has all slots in use (\(Numbers.milliseconds(need.delay)) ms)"
        }
    }

    private static func reason(_ refusal: Refusal) -> String {
        switch refusal {
        case .noEndpoint(let reason): "refused, 503: \(reason)"
        case .unknownModel(let model): "refused, 404: no pod serves \(model)"
        case .shed(let reason, _): "refused, 429: \(reason)"
        }
    }

    private static func table(
        _ candidates: [Candidate],
        chosen: Candidate?,
        _ names: [EndpointID: String],
        _ places: [EndpointID: PodPlace?]
    ) -> String {
        var table = TextTable(
            [("", .left), ("candidate", .left), ("cached", .right)]
                + [
                    "queue", "prefill", "pull", "transfer", "overhead", "admit", "step", "TTFT", "TPOT", "decode",
                    "others", "P(miss)", "P(over)", "$time", "$others", "$busy", "$miss", "$over", "$evict", "$total",
                ].map { ($0, .right) }
        )
        for candidate in candidates {
            let isChosen = candidate.placement == chosen?.placement && candidate.pullFrom == chosen?.pullFrom
            let name = placement(candidate, names) + span(candidate, places)
            table.add([isChosen ? "*" : "", name] + cells(candidate))
        }
        return table.rendered(indent: 2)
    }

    /// The widest boundary that a pair's KV crosses.
    private static func span(_ candidate: Candidate, _ places: [EndpointID: PodPlace?]) -> String {
        guard case .pair(let prefill, let decode) = candidate.placement,
            let span = NetworkSpan(between: places[prefill] ?? nil, and: places[decode] ?? nil)
        else { return "" }
        return " (\(span.rawValue))"
    }

    private static func cells(_ candidate: Candidate) -> [String] {
        let terms = candidate.terms
        let seconds = [
            terms.queueing, terms.prefill, terms.pull, terms.transfer, terms.overhead, terms.admission,
            terms.firstStep, terms.ttft, terms.tpot, terms.decode, terms.othersPrefill + terms.othersDecode,
        ]
        let dollars = [
            terms.time, terms.others, terms.busy, terms.miss, terms.overflow, terms.eviction, terms.total,
        ]
        return [String(candidate.cachedTokens)] + seconds.map { Numbers.milliseconds($0.rawValue) }
            + [Numbers.fixed(terms.missProbability, 2), Numbers.fixed(terms.overflowProbability, 2)]
            + dollars.map { Numbers.dollarsPerThousand($0.rawValue) }
    }

    static func placement(_ candidate: Candidate, _ names: [EndpointID: String]) -> String {
        func name(_ id: EndpointID) -> String { names[id] ?? "endpoint \(id.rawValue)" }
        let base =
            switch candidate.placement {
            case .pair(let prefill, let decode): "\(name(prefill)) → \(name(decode))"
            case .local(let id): "\(name(id)) (local prefill)"
            case .both(let id): "\(name(id)) (both)"
            }
        let verb = candidate.pullFrom.flatMap(SharedStore.place) == nil ? "pulling" : "loading"
        let pull = candidate.pullFrom.map { " \(verb) from \(name($0))" } ?? ""
        let reason = candidate.ineligible.map { " [\($0.rawValue)]" } ?? ""
        return base + pull + reason
    }
}
