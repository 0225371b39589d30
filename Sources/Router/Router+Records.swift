// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// What decisions leave for `explain`.
extension Router {
    /// Records a decision of the cost search; `finish` says what came of it.
    mutating func record(
        _ request: InferenceRequest,
        _ facts: RequestFacts,
        dials: Dials,
        settings: CostSettings,
        draw: UInt64,
        _ finish: (inout DecisionRecord) -> Void
    ) {
        guard isRecorded(request.id) else { return }
        let input = DecisionInput(
            now: now,
            draw: draw,
            request: facts,
            dials: dials,
            settings: settings,
            surroundings: frame.surroundings,
            layouts: frame.links.layouts,
            connectors: options.connectors,
            pods: podViews(request),
            transferCosts: frame.transferCosts.isEmpty ? nil : frame.transferCosts.list,
            network: frame.links.network == .flat ? nil : frame.links.network
        )
        var record = DecisionRecord(input: input, chosen: nil)
        finish(&record)
        records.append(record)
    }

    mutating func record(_ choice: Choice, of request: InferenceRequest) {
        record(
            request,
            choice.facts,
            dials: choice.dials,
            settings: choice.settings,
            draw: choice.draw
        ) { $0.chosen = choice.candidate }
    }

    /// Records a request that was refused before its candidates were compared.
    mutating func recordRefusal(_ request: InferenceRequest, _ refusal: Refusal) {
        guard isRecorded(request.id) else { return }
        // The frame may still be another request's.
        enter(pool(for: request), subset: request.subset)
        recordPlain(request) { $0.refusal = refusal }
    }

    /// Records a request that was placed by load alone.
    mutating func record(_ request: InferenceRequest, _ load: LoadChoice) {
        recordPlain(request) { record in
            record.byLoad = load
            record.placedByLoad = load.choice
        }
    }

    private mutating func recordPlain(_ request: InferenceRequest, _ finish: (inout DecisionRecord) -> Void) {
        guard isRecorded(request.id) else { return }
        record(
            request,
            facts(of: request, priceLimit: nil, arrivedAt: now),
            dials: dials(of: request),
            settings: currentSettings,
            draw: 0,
            finish
        )
    }

    /// A sample by the request's number: the same requests whatever else happens.
    @inline(__always)
    private func isRecorded(_ id: RequestID) -> Bool {
        options.recordedShare > 0 && records.count < Self.maximumRecords
            && Double(mixed(id.rawValue) >> 11) * 0x1p-53 < options.recordedShare
    }

    private func storeName(_ id: EndpointID) -> String? {
        SharedStore.place(of: id).flatMap { options.stores.indices.contains($0) ? options.stores[$0].name : nil }
    }

    private mutating func podViews(_ request: InferenceRequest) -> [PodView] {
        let pool = pool(for: request)
        let prefills = Set(frame.prefills)
        let decodes = Set(frame.decodes)
        return fleet.endpoints.enumerated().map { index, status in
            let isUsed = prefills.contains(index) || decodes.contains(index)
            return PodView(
                name: status.endpoint.name,
                accelerator: status.endpoint.accelerator,
                held: frame.held[index],
                mayPrefill: prefills.contains(index),
                mayDecode: decodes.contains(index),
                ineligible: isUsed ? nil : pool.reasons[index] ?? .notInSubset,
                state: frame.states[index],
                stored: frame.stored.isEmpty ? nil : frame.stored[index],
                storeName: frame.stored.isEmpty ? nil : frame.stored[index].flatMap { storeName($0.store) },
                adapter: frame.adapters.isEmpty ? nil : frame.adapters[index]
            )
        }
    }
}
