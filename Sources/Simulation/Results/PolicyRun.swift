// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router

/// One policy's run at one load and seed, small enough to keep many of.
package struct PolicyRun: Sendable {
    package let policy: String
    package let load: Double
    package let seed: UInt64
    package let metrics: PolicyMetrics
    /// Seconds at 0, 1, …, 100 % of requests.
    package let ttftPercentiles: [Double]
    package let tpotPercentiles: [Double]
    /// Per accelerator, sorted by name: share of its pods' time that was busy, between two points in time.
    package let utilisation: [AcceleratorUtilisation]

    package struct AcceleratorUtilisation: Sendable {
        package let accelerator: String
        package let times: [Double]
        package let shares: [Double]
    }

    init(policy: String, load: Double, seed: UInt64, record: RunRecord) {
        self.policy = policy
        self.load = load
        self.seed = seed
        metrics = PolicyMetrics(record)
        let (ttft, tpot) = (Quantiles(record.ttfts), Quantiles(record.tpots))
        ttftPercentiles = (0...100).map { ttft[Double($0) / 100] }
        tpotPercentiles = (0...100).map { tpot[Double($0) / 100] }
        utilisation = Self.utilisation(record)
    }

    private static func utilisation(_ record: RunRecord) -> [AcceleratorUtilisation] {
        let names = record.endpoints.map { "\($0.accelerator) \($0.role.rawValue)" }
        let series = record.series
        return Set(names).sorted().map { name in
            let pods = names.indices.filter { names[$0] == name }
            var (times, shares): ([Double], [Double]) = ([], [])
            for index in series.times.indices.dropFirst() {
                let span = series.times[index] - series.times[index - 1]
                guard span > 0 else { continue }
                let busy = pods.reduce(0) { $0 + series.busy[index][$1] - series.busy[index - 1][$1] }
                times.append(series.times[index])
                shares.append(busy / span / Double(pods.count))
            }
            return AcceleratorUtilisation(accelerator: name, times: times, shares: shares)
        }
    }
}
