// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One of vLLM's histograms.
struct EngineHistogram: Sendable {
    let name: String
    let help: String
    let bounds: [Double]
    private var counts: [Int]
    private var sum = 0.0
    private var count = 0

    init(_ name: String, _ help: String, _ bounds: [Double]) {
        self.name = name
        self.help = help
        self.bounds = bounds
        counts = Array(repeating: 0, count: bounds.count)
    }

    mutating func observe(_ value: Double) {
        if let place = bounds.firstIndex(where: { value <= $0 }) { counts[place] += 1 }
        sum += value
        count += 1
    }

    func write(into page: inout String, labels: String) {
        page += "# HELP \(name) \(help)\n# TYPE \(name) histogram\n"
        var total = 0
        for (bound, count) in zip(bounds, counts) {
            total += count
            page += "\(name)_bucket{\(labels),le=\"\(bound)\"} \(Double(total))\n"
        }
        page += "\(name)_bucket{\(labels),le=\"+Inf\"} \(Double(count))\n"
        page += "\(name)_sum{\(labels)} \(sum)\n\(name)_count{\(labels)} \(Double(count))\n"
    }
}

/// The histograms of a vLLM server, with the bounds of vLLM 0.32.
struct EngineHistograms: Sendable {
    private static let ttftBounds = [
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
        2560,
    ]
    private static let perTokenBounds = [
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
    ]
    private static let latencyBounds = [
        0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
    ]
    private static let tokenBounds: [Double] = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000,
    ]

    var ttft = EngineHistogram(
        "vllm:time_to_first_token_seconds",
        "Histogram of time to first token in seconds.",
        ttftBounds
    )
    var interToken = EngineHistogram(
        "vllm:inter_token_latency_seconds",
        "Histogram of inter-token latency in seconds.",
        perTokenBounds
    )
    var perOutputToken = EngineHistogram(
        "vllm:request_time_per_output_token_seconds",
        "Histogram of time_per_output_token_seconds per request.",
        perTokenBounds
    )
    var endToEnd = EngineHistogram(
        "vllm:e2e_request_latency_seconds",
        "Histogram of e2e request latency in seconds.",
        latencyBounds
    )
    var queue = EngineHistogram(
        "vllm:request_queue_time_seconds",
        "Histogram of time spent in WAITING phase for request.",
        latencyBounds
    )
    var prefill = EngineHistogram(
        "vllm:request_prefill_time_seconds",
        "Histogram of time spent in PREFILL phase for request.",
        latencyBounds
    )
    var decode = EngineHistogram(
        "vllm:request_decode_time_seconds",
        "Histogram of time spent in DECODE phase for request.",
        latencyBounds
    )
    var promptTokens = EngineHistogram(
        "vllm:request_prompt_tokens",
        "Number of prefill tokens processed.",
        tokenBounds
    )
    var generationTokens = EngineHistogram(
        "vllm:request_generation_tokens",
        "Number of generation tokens processed.",
        tokenBounds
    )

    var all: [EngineHistogram] {
        [
            promptTokens, generationTokens, ttft, interToken, perOutputToken, endToEnd, queue, prefill, decode,
        ]
    }
}
