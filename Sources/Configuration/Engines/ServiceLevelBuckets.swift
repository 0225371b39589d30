// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Which buckets of an engine's histograms hold the requests that met a service level.
///
/// An engine counts by its own bounds: the greatest one that is not above the service level is taken, so that the share
/// within it is never said too high.
extension EngineMetrics {
    /// vLLM's bounds, `vllm/v1/metrics/loggers.py`, as Python writes them.
    private static let ttftBounds = [
        "0.001", "0.005", "0.01", "0.02", "0.04", "0.06", "0.08", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0",
        "7.5",
        "10.0", "20.0", "40.0", "80.0", "160.0", "640.0", "2560.0",
    ]
    private static let tpotBounds = [
        "0.01", "0.025", "0.05", "0.075", "0.1", "0.15", "0.2", "0.3", "0.4", "0.5", "0.75", "1.0", "2.5", "5.0", "7.5",
        "10.0", "20.0", "40.0", "80.0",
    ]

    /// vLLM's series, with the counts of requests within the bounds. nil = no bound, and no such count.
    package static func vllm(ttft: Seconds?, tpot: Seconds?) -> EngineMetrics {
        var metrics = vllm
        if let bound = greatest(ttftBounds, within: ttft) {
            let name = "vllm:time_to_first_token_seconds_bucket"
            metrics.entries.append(Entry(.ttftWithin, [MetricSelector(name, [.init("le", bound)])]))
        }
        if let bound = greatest(tpotBounds, within: tpot) {
            let name = "vllm:request_time_per_output_token_seconds_bucket"
            metrics.entries.append(Entry(.tpotWithin, [MetricSelector(name, [.init("le", bound)])]))
        }
        return metrics
    }

    private static func greatest(_ bounds: [String], within level: Seconds?) -> String? {
        guard let level else { return nil }
        return bounds.last { Double($0).map { $0 <= level.rawValue } ?? false }
    }
}
