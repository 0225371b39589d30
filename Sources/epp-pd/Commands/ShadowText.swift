// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// What another picker did, beside what this one would have done.
enum ShadowText {
    static func text(of shadow: ShadowRecord, beside chosen: Candidate?, _ names: [EndpointID: String]) -> String {
        guard let served = shadow.served else { return "served elsewhere, nobody said where" }
        guard let theirs = shadow.candidate else {
            let prefiller = served.prefiller.map { "\($0) → " } ?? ""
            return "served by \(prefiller)\(served.destination), which is none of these candidates"
        }
        var text = "served by \(DecisionText.placement(theirs, names)): "
        guard let chosen else { return text + "this picker would have refused it" }
        if theirs.placement == chosen.placement { return text + "the same choice" }
        text += "TTFT \(milliseconds(theirs.terms.ttft)) against \(milliseconds(chosen.terms.ttft)) ms, "
        text += "TPOT \(milliseconds(theirs.terms.tpot)) against \(milliseconds(chosen.terms.tpot)) ms, "
        let dollars = [theirs, chosen].map { Numbers.dollarsPerThousand($0.terms.total.rawValue) }
        return text + "cost $\(dollars[0]) against $\(dollars[1]) per 1,000 requests"
    }

    private static func milliseconds(_ span: Seconds) -> String { Numbers.milliseconds(span.rawValue) }
}

/// Sums over the watched requests of a log whose placement both pickers can price.
struct ShadowSummary: Encodable {
    /// Watched requests in the log.
    var requests = 0
    /// Of them, those with both prices.
    var compared = 0
    /// Of the compared, those that both send to the same pods.
    var same = 0
    private var ours = Sums()
    private var theirs = Sums()

    private struct Sums: Encodable {
        var ttftSeconds = 0.0
        var tpotSeconds = 0.0
        var dollars = 0.0
        var busyDollars = 0.0

        mutating func add(_ terms: CostTerms) {
            ttftSeconds += terms.ttft.rawValue
            tpotSeconds += terms.tpot.rawValue
            dollars += terms.total.rawValue
            busyDollars += terms.busy.rawValue
        }

        func text(_ count: Int) -> String {
            let count = Double(max(count, 1))
            let times = [ttftSeconds, tpotSeconds].map { Numbers.milliseconds($0 / count) }
            let money = [busyDollars, dollars].map { Numbers.dollarsPerThousand($0 / count) }
            return "TTFT \(times[0]) ms, TPOT \(times[1]) ms, busy $\(money[0]), cost $\(money[1]) per 1,000 requests"
        }
    }

    mutating func add(_ record: DecisionRecord) {
        guard let shadow = record.shadow else { return }
        requests += 1
        guard let candidate = shadow.candidate, let chosen = record.chosen else { return }
        compared += 1
        if candidate.placement == chosen.placement { same += 1 }
        ours.add(chosen.terms)
        theirs.add(candidate.terms)
    }

    /// nil where the log has no watched request.
    var text: String? {
        guard requests > 0 else { return nil }
        return """
            \(requests) watched requests, \(compared) compared, \(same) of them with the same choice; predicted means:
              served       \(theirs.text(compared))
              this picker  \(ours.text(compared))
            """
    }
}
