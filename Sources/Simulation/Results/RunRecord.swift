// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
package import Router

/// All that a run left behind.
package struct RunRecord: Sendable {
    package let workload: Workload
    package let options: SimulationOptions
    package let endpoints: [Endpoint]
    let requests: [SimulatedRequest]
    package let counters: [ServerCounters]
    package let series: UtilisationSeries
    package let traceHash: UInt64
    package let decisions: Int
    package let decisionSeconds: Double
    package let parameters: [String: String]

    /// TTFT of each offered request in seconds; the deadline for one that was refused or failed.
    package var ttfts: [Double] {
        zip(requests, workload.requests).map { request, offered in
            request.state == .done ? request.firstToken - offered.arrival : options.deadline
        }
    }

    /// TPOT of each answered request with more than one token, in seconds.
    package var tpots: [Double] {
        zip(requests, workload.requests).compactMap { request, offered in tpot(request, offered) }
    }

    private func tpot(_ request: SimulatedRequest, _ offered: OfferedRequest) -> Double? { request.tpot(offered) }

    /// Did the request get its answer within its service level?
    package func isMet(_ index: Int) -> Bool {
        options.serviceLevel.isMet(requests[index], workload.requests[index])
    }

    func isDone(_ index: Int) -> Bool { requests[index].state == .done }
    func isRefused(_ index: Int) -> Bool { requests[index].state == .refused }
    func latency(_ index: Int) -> Double { requests[index].finished - workload.requests[index].arrival }
    func cachedTokens(_ index: Int) -> Int { Int(requests[index].cachedTokens) }
    func wasComputed(_ index: Int) -> Bool { requests[index].prefillStart > 0 }

    /// Prompts that a decode-only pod computed itself.
    var localPrefills: Int {
        requests.count { request in
            request.prefiller >= 0 && !request.isPair && endpoints[Int(request.prefiller)].role == .decode
        }
    }

    var pulls: Int { requests.count { $0.pullFrom >= 0 } }
}

extension SimulatedRequest {
    /// Seconds between tokens, for an answer of more than one.
    func tpot(_ offered: OfferedRequest) -> Double? {
        guard state == .done, offered.outputTokens > 1 else { return nil }
        return (finished - firstToken) / Double(offered.outputTokens - 1)
    }
}

extension ServiceLevelRule {
    /// Did the request get its answer within its service level?
    func isMet(_ request: SimulatedRequest, _ offered: OfferedRequest) -> Bool {
        guard request.state == .done else { return false }
        let level = level(promptTokens: offered.promptTokens)
        if let limit = level.ttft, request.firstToken - offered.arrival > limit.rawValue { return false }
        if let limit = level.tpot, let tpot = request.tpot(offered), tpot > limit.rawValue { return false }
        return true
    }
}
