// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import Logging
import Router
import Synchronization

/// Counts what the exchanges of all loops report, and logs each kind of trouble once.
final class ExchangeCounters: ExchangeObserver, Sendable {
    private struct State {
        /// Statuses are our own: few.
        var answers: [Int: UInt64] = [:]
        var violations: UInt64 = 0
        var servedElsewhere: UInt64 = 0
    }

    private let state = Mutex(State())
    private let log: Logger

    init(log: Logger) { self.log = log }

    func servedElsewhere(_ request: RequestID, picked: [String], served: String) {
        let isFirst = state.withLock { state in
            state.servedElsewhere += 1
            return state.servedElsewhere == 1
        }
        guard isFirst else { return }
        log.warning(
            """
            Envoy served a request elsewhere than picked; counted from here on in epp_pd_served_elsewhere_total. \
            Does its cluster know every endpoint of the fleet?
            """,
            metadata: ["picked": "\(picked.joined(separator: ","))", "served": "\(served)"]
        )
    }

    func answered(status: Int) { state.withLock { $0.answers[status, default: 0] += 1 } }

    func violated(_ status: GRPCStatus) {
        let isFirst = state.withLock { state in
            state.violations += 1
            return state.violations == 1
        }
        guard isFirst else { return }
        log.warning(
            "an external processing call broke the protocol; further ones are counted only",
            metadata: ["code": "\(status.code)", "message": "\(status.message)"]
        )
    }

    /// By HTTP status, lowest first.
    var answers: [(status: Int, count: UInt64)] {
        state.withLock { $0.answers.sorted { $0.key < $1.key }.map { (status: $0.key, count: $0.value) } }
    }
    var violations: UInt64 { state.withLock { $0.violations } }
    var servedElsewhereCount: UInt64 { state.withLock { $0.servedElsewhere } }
}
