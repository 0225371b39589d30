// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// Requests that are known to have missed their service level: where their end says so, and, where a run may be broken
/// off for it, as soon as their bound of the first token has passed. A policy that sets aside what is lost serves it last:
/// to wait for its end would be to simulate almost the whole run.
struct MissedRequests: Sendable {
    private(set) var count = 0
    private var isCounted: [Bool]
    /// When first tokens are due, by time; empty where nobody watches.
    private var deadlines: [(at: Double, request: Int)] = []
    private var passed = 0

    init(requests: Int) { isCounted = Array(repeating: false, count: requests) }

    mutating func watch(_ workload: Workload, _ rule: ServiceLevelRule) {
        deadlines = workload.requests.indices.compactMap { index in
            let offered = workload.requests[index]
            let bound = rule.level(promptTokens: offered.promptTokens).ttft
            return bound.map { (offered.arrival + $0.rawValue, index) }
        }
        deadlines.sort { ($0.at, $0.request) < ($1.at, $1.request) }
    }

    /// Each request counts once.
    mutating func add(_ request: Int) {
        guard !isCounted[request] else { return }
        isCounted[request] = true
        count += 1
    }

    /// Time went on to `now`.
    mutating func advance(to now: Double, _ requests: [SimulatedRequest]) {
        while passed < deadlines.count, deadlines[passed].at < now {
            let request = deadlines[passed].request
            passed += 1
            if requests[request].firstToken < 0 { add(request) }
        }
    }
}
