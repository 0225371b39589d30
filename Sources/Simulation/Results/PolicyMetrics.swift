// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// What a run is judged by. Means and quantiles are over all offered requests.
package struct PolicyMetrics: Sendable, Hashable, Codable {
    package var requests: Int
    package var succeeded: Int
    package var rejected: Int
    package var failed: Int
    package var ttftMean: Double
    package var ttftP50: Double
    package var ttftP90: Double
    package var ttftP99: Double
    package var tpotMean: Double
    package var tpotP90: Double
    package var sloAttainment: Double
    package var goodput: Double
    package var busyDollarsPerThousand: Double
    package var prefixHitRatio: Double
    package var longPromptP99Slowdown: Double
    /// Whole answers: from arrival to the last token.
    package var latencyP90: Double
    /// (last token − arrival) ÷ output tokens, over answered requests.
    package var normalizedTPOTP90: Double
    /// Answered requests ÷ seconds from the first arrival to the last token of all.
    package var completionsPerSecond: Double
    package var localPrefills: Int
    package var pulls: Int
    package var preemptions: Int
    package var decisionsPerSecond: Double
    package var traceHash: String
    package var parameters: [String: String]

    /// Names of the JSON output (docs/simulator.md), in milliseconds where a name ends so.
    enum CodingKeys: String, CodingKey {
        case requests, succeeded, rejected, failed
        case ttftMean = "ttft_mean_ms"
        case ttftP50 = "ttft_p50_ms"
        case ttftP90 = "ttft_p90_ms"
        case ttftP99 = "ttft_p99_ms"
        case tpotMean = "tpot_mean_ms"
        case tpotP90 = "tpot_p90_ms"
        case sloAttainment = "slo_attainment"
        case goodput = "goodput_rps"
        case busyDollarsPerThousand = "busy_usd_per_1k"
        case prefixHitRatio = "prefix_hit_ratio"
        case longPromptP99Slowdown = "long_prompt_p99_slowdown"
        case latencyP90 = "latency_p90_ms"
        case normalizedTPOTP90 = "normalized_tpot_p90_ms"
        case completionsPerSecond = "completions_per_s"
        case localPrefills = "local_prefills"
        case pulls
        case preemptions
        case decisionsPerSecond = "decisions_per_second"
        case traceHash = "trace_hash"
        case parameters
    }

    /// Share of requests, by prompt length, that count as long.
    package static let longShare = 0.1

    package init(_ record: RunRecord) {
        let offered = record.workload.requests
        let indices = offered.indices
        let ttfts = record.ttfts
        let ttft = Quantiles(ttfts.map { $0 * 1000 })
        let tpot = Quantiles(record.tpots.map { $0 * 1000 })
        let done = indices.filter(record.isDone)
        let met = indices.count(where: record.isMet)
        let latency = Quantiles(indices.map { record.isDone($0) ? record.latency($0) : record.options.deadline })
        let normalized = Quantiles(done.map { record.latency($0) / Double(offered[$0].outputTokens) * 1000 })
        requests = offered.count
        succeeded = done.count
        rejected = indices.count(where: record.isRefused)
        failed = requests - succeeded - rejected
        (ttftMean, ttftP50, ttftP90, ttftP99) = (ttft.mean, ttft[0.5], ttft[0.9], ttft[0.99])
        (tpotMean, tpotP90) = (tpot.mean, tpot[0.9])
        sloAttainment = Double(met) / Double(max(requests, 1))
        let first = offered.first?.arrival ?? 0
        let last = done.map { record.latency($0) + offered[$0].arrival }.max() ?? first
        // Where all arrive at once the trace takes no time.
        goodput = Double(met) / max(record.workload.span > 0 ? record.workload.span : last - first, 1e-9)
        let dollars = zip(record.counters, record.endpoints)
            .reduce(0) { $0 + $1.0.busyTime.rawValue * $1.1.profile.dollarsPerSecond }
        busyDollarsPerThousand = dollars / Double(max(requests, 1)) * 1000
        let computed = indices.filter(record.wasComputed)
        let cached = computed.reduce(0) { $0 + record.cachedTokens($1) }
        let prompts = computed.reduce(0) { $0 + offered[$1].promptTokens }
        prefixHitRatio = Double(cached) / Double(max(prompts, 1))
        longPromptP99Slowdown = Self.longSlowdown(record, ttfts)
        latencyP90 = latency[0.9] * 1000
        normalizedTPOTP90 = normalized[0.9]
        completionsPerSecond = Double(done.count) / max(last - first, 1e-9)
        localPrefills = record.localPrefills
        pulls = record.pulls
        preemptions = record.counters.reduce(0) { $0 + $1.preemptions }
        decisionsPerSecond = record.decisionSeconds > 0 ? Double(record.decisions) / record.decisionSeconds : 0
        let digits = String(record.traceHash, radix: 16)
        traceHash = String(repeating: "0", count: 16 - digits.count) + digits
        parameters = record.parameters
    }

    /// TTFT of long prompts over that of the best pod, idle and without cache: 99 % quantile.
    private static func longSlowdown(_ record: RunRecord, _ ttfts: [Double]) -> Double {
        let offered = record.workload.requests
        let count = max(Int((Double(offered.count) * longShare).rounded(.up)), 1)
        let long = offered.indices.sorted {
            (offered[$0].promptTokens, $1) > (offered[$1].promptTokens, $0)
        }.prefix(count)
        let slowdowns = long.map { index -> Double in
            let idle = record.endpoints.map { endpoint in
                endpoint.profile.ttftOverhead.rawValue
                    + endpoint.profile.prefill.duration(newTokens: offered[index].promptTokens, cachedTokens: 0)
                    .rawValue
            }
            return ttfts[index] / max(idle.min() ?? 1, 1e-9)
        }
        return Quantiles(slowdowns)[0.99]
    }
}
