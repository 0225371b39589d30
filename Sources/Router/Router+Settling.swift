// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// Exchanges that end before their answers do: the gateway shows nothing of the answer, its end neither. Such a request
/// stays in the ledger until it is predicted to end, or its pods would seem idle from the moment of dispatch.
extension Router {
    /// - Returns: false where the request has an end that somebody saw.
    mutating func settlesLater(_ id: RequestID, _ outcome: Outcome) -> Bool {
        guard outcome.isEarly, outcome.kind == .completed, var entry = inFlight[id], let terms = entry.terms else {
            return false
        }
        // Said twice.
        guard !entry.isUnwatched else { return true }
        let end = entry.dispatchedAt + terms.ttft + terms.decode
        guard end > now, end.rawValue.isFinite else { return false }
        entry.isUnwatched = true
        inFlight[id] = entry
        predictedEnds.add(id, at: end.rawValue)
        counts.ended(outcome.kind)
        steer(entry, outcome)
        countFirstToken(of: entry)
        return true
    }

    /// Takes out of the ledger what should have ended by now.
    mutating func settle() {
        while predictedEnds.first <= now.rawValue, let id = predictedEnds.removeFirst() {
            guard let entry = inFlight[id], entry.isUnwatched else { continue }
            inFlight[id] = nil
            leaveLedger(id, entry)
            notify(id, .ended)
        }
    }
}
