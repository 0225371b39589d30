// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// Shadow mode: requests that another picker places. Each is decided as if it were ours, and that choice is recorded
/// beside what was served; the ledger, the index and all that is learned follow what was served.
extension Router {
    /// A watched request of which nobody has said yet where it went.
    struct Unserved: Sendable {
        var request: InferenceRequest
        /// nil where the sample left it out.
        var record: DecisionRecord?
    }

    /// Watched requests that wait to be told where they went. Beyond, their choice is recorded alone.
    static let maximumUnserved = 4096

    mutating func watch(_ request: InferenceRequest, _ shadow: Shadow, into actions: inout [RouterAction]) {
        guard request.isInference else {
            if let served = shadow.served { count(request, at: served) }
            return
        }
        arrivals.add(at: now.rawValue)
        counts.arrived += 1
        // Nothing waits in a queue here: the other picker has sent it already.
        guard case .chosen(let choice) = choose(request, arrivedAt: now, line: nil) else {
            mark(request.id, ShadowRecord(served: shadow.served, candidate: nil))
            if let served = shadow.served { count(request, at: served) }
            return
        }
        let before = records.count
        record(choice, of: request)
        let isRecorded = records.count > before
        guard let served = shadow.served else {
            guard unserved.count < Self.maximumUnserved else {
                if isRecorded { mark(request.id, ShadowRecord(served: nil, candidate: nil)) }
                return
            }
            let record = isRecorded ? records.removeLast() : nil
            unserved[request.id] = Unserved(request: request, record: record)
            return
        }
        let priced = candidate(at: served, choice)
        if isRecorded { mark(request.id, ShadowRecord(served: served, candidate: priced)) }
        guard let priced else { return count(request, at: served) }
        var theirs = choice
        theirs.candidate = priced
        dispatch(request, theirs, isRecorded: false, into: &actions)
    }

    /// The answer said where a watched request went.
    mutating func served(_ id: RequestID, _ served: Served) {
        guard let entry = unserved.removeValue(forKey: id) else { return }
        // Its prompt has been computed by now: it is counted where it runs, without any work.
        count(entry.request, at: served)
        guard var record = entry.record, records.count < Self.maximumRecords else { return }
        let wanted = placement(of: served)
        let candidate = wanted.flatMap { wanted in record.input.ranked().first { $0.isPlain(wanted) } }
        record.shadow = ShadowRecord(served: served, candidate: candidate)
        records.append(record)
    }

    /// A watched request ended, and nobody said where it went.
    mutating func endedUnserved(_ id: RequestID) {
        guard let entry = unserved.removeValue(forKey: id), var record = entry.record,
            records.count < Self.maximumRecords
        else { return }
        record.shadow = ShadowRecord(served: nil, candidate: nil)
        records.append(record)
    }

    private func candidate(at served: Served, _ choice: Choice) -> Candidate? {
        guard let wanted = placement(of: served) else { return nil }
        var search = DecisionSearch()
        let ranked = search.ranked(
            for: choice.facts,
            in: frame,
            dials: choice.dials,
            settings: choice.settings,
            draw: choice.draw
        )
        return ranked.first { $0.isPlain(wanted) }
    }

    /// - Returns: nil where the fleet has no such destination.
    func placement(of served: Served) -> Placement? {
        guard let d = hostPorts[served.destination] else { return nil }
        let destination = fleet.endpoints[d].endpoint
        if let prefiller = served.prefiller, let p = hostPorts[prefiller], p != d {
            return .pair(prefill: fleet.endpoints[p].endpoint.id, decode: destination.id)
        }
        return destination.role == .both ? .both(destination.id) : .local(destination.id)
    }

    /// Follows a watched request where it went, by count alone.
    private mutating func count(_ request: InferenceRequest, at served: Served) {
        guard let placement = placement(of: served), let index = hostPorts[served.destination] else { return }
        follow(request, at: index, placement)
    }

    /// Adds to the last record, where it is of this request, what was served.
    private mutating func mark(_ id: RequestID, _ shadow: ShadowRecord) {
        guard let last = records.indices.last, records[last].input.request.id == id else { return }
        records[last].shadow = shadow
    }
}

extension Candidate {
    /// The same pods, without a pull from a third one, of which no other picker says anything.
    fileprivate func isPlain(_ placement: Placement) -> Bool { self.placement == placement && pullFrom == nil }
}
