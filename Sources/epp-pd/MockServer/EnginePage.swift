// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Simulation

/// What a mock server's /metrics says at one moment, with vLLM's names.
struct EnginePage: Sendable {
    var load: ServerLoad
    var counters: ServerCounters
    var histograms: EngineHistograms
    /// Tokens that came from a prefill server.
    var transferredTokens: Int
    var aborted: Int
    var blockSize: Int
    var blocks: Int

    func text(model: String) -> String {
        let labels = "engine=\"0\",model_name=\"\(model)\""
        var page = ""
        func family(_ name: String, _ type: String, _ help: String, _ samples: [(String, Double)]) {
            page += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
            for (extra, value) in samples { page += "\(name){\(labels)\(extra)} \(value)\n" }
        }
        func gauge(_ name: String, _ help: String, _ value: Double) { family(name, "gauge", help, [("", value)]) }
        func counter(_ name: String, _ help: String, _ value: Int) {
            family(name, "counter", help, [("", Double(value))])
        }

        gauge("vllm:num_requests_running", "Number of requests in model execution batches.", Double(load.running))
        gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.", Double(load.waiting))
        family(
            "vllm:num_requests_waiting_by_reason",
            "gauge",
            "Number of waiting requests by reason.",
            [(",reason=\"capacity\"", Double(load.waiting)), (",reason=\"deferred\"", 0)]
        )
        gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", load.kvUse)
        counter(
            "vllm:prefix_cache_queries_total",
            "Prefix cache queries, in terms of number of queried tokens.",
            counters.prefixQueries
        )
        counter(
            "vllm:prefix_cache_hits_total",
            "Prefix cache hits, in terms of number of cached tokens.",
            counters.prefixHits
        )
        counter(
            "vllm:external_prefix_cache_hits_total",
            "External prefix cache hits from KV connector cross-instance cache sharing, in terms of number of cached tokens.",
            transferredTokens
        )
        counter(
            "vllm:num_preemptions_total",
            "Cumulative number of preemption from the engine.",
            counters.preemptions
        )
        counter("vllm:prompt_tokens_total", "Number of prefill tokens processed.", counters.promptTokens)
        counter("vllm:generation_tokens_total", "Number of generation tokens processed.", counters.generationTokens)
        family(
            "vllm:request_success_total",
            "counter",
            "Count of successfully processed requests.",
            [
                (",finished_reason=\"stop\"", 0), (",finished_reason=\"length\"", Double(counters.finished)),
                (",finished_reason=\"abort\"", Double(aborted)),
            ]
        )
        for histogram in histograms.all { histogram.write(into: &page, labels: labels) }
        page += "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
        page += "# TYPE vllm:cache_config_info gauge\n"
        page += "vllm:cache_config_info{block_size=\"\(blockSize)\",engine=\"0\",num_gpu_blocks=\"\(blocks)\"} 1.0\n"
        return page
    }
}
