// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Which series of an engine's metrics page mean what. Names are matched exactly: vLLM has
/// `num_requests_waiting_by_reason` beside `num_requests_waiting`.
package struct EngineMetrics: Sendable, Hashable {
    package struct Entry: Sendable, Hashable {
        package var quantity: EngineQuantity
        /// In order of preference: an earlier one that is on the page makes the later ones void.
        package var selectors: [MetricSelector]

        package init(_ quantity: EngineQuantity, _ selectors: [MetricSelector]) {
            self.quantity = quantity
            self.selectors = selectors
        }
    }

    package var engine: String
    package var entries: [Entry]
    /// The series whose labels `max_lora`, `running_lora_adapters` and `waiting_lora_adapters` tell of LoRA adapters, and
    /// whose value is the time of that. nil: the engine has none.
    package var adapterSeries: String?

    package init(engine: String, entries: [Entry], adapterSeries: String? = nil) {
        self.engine = engine
        self.entries = entries
        self.adapterSeries = adapterSeries
    }

    package static let builtIn: [EngineMetrics] = [vllm, sglang, trtllm, triton]

    /// vLLM 0.6 to 0.33: `vllm/v1/metrics/loggers.py`; the second names are those before V1.
    package static let vllm = EngineMetrics(
        engine: "vllm",
        entries: [
            Entry(.waiting, ["vllm:num_requests_waiting"]),
            Entry(.running, ["vllm:num_requests_running"]),
            Entry(.kvUse, ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"]),
            Entry(.kvBlocks, [MetricSelector("vllm:cache_config_info", source: .label("num_gpu_blocks"))]),
            Entry(.kvBlockSize, [MetricSelector("vllm:cache_config_info", source: .label("block_size"))]),
            Entry(.prefixQueries, ["vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"]),
            Entry(.prefixHits, ["vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"]),
            Entry(.preemptions, ["vllm:num_preemptions_total"]),
            Entry(.promptTokens, ["vllm:prompt_tokens_total"]),
            Entry(.generationTokens, ["vllm:generation_tokens_total"]),
            Entry(.finishedRequests, ["vllm:request_success_total"]),
            Entry(.processStart, ["process_start_time_seconds"]),
            Entry(.queueTimeSum, ["vllm:request_queue_time_seconds_sum"]),
            Entry(.queueTimeCount, ["vllm:request_queue_time_seconds_count"]),
            Entry(.prefillTimeSum, ["vllm:request_prefill_time_seconds_sum"]),
            Entry(.prefillTimeCount, ["vllm:request_prefill_time_seconds_count"]),
            Entry(.decodeTimeSum, ["vllm:request_decode_time_seconds_sum"]),
            Entry(.decodeTimeCount, ["vllm:request_decode_time_seconds_count"]),
            Entry(.transferredTokens, ["vllm:external_prefix_cache_hits_total"]),
            Entry(.ttftCount, ["vllm:time_to_first_token_seconds_count"]),
            Entry(.tpotCount, ["vllm:request_time_per_output_token_seconds_count"]),
        ],
        adapterSeries: "vllm:lora_requests_info"
    )

    /// SGLang with `--enable-metrics`.
    package static let sglang = EngineMetrics(
        engine: "sglang",
        entries: [
            Entry(.waiting, ["sglang:num_queue_reqs"]),
            Entry(.running, ["sglang:num_running_reqs"]),
            Entry(.kvUse, ["sglang:token_usage"]),
            Entry(.kvBlocks, [MetricSelector("sglang:cache_config_info", source: .label("num_pages"))]),
            Entry(.kvBlockSize, [MetricSelector("sglang:cache_config_info", source: .label("page_size"))]),
            Entry(.promptTokens, ["sglang:prompt_tokens_total"]),
            Entry(.generationTokens, ["sglang:generation_tokens_total"]),
            Entry(.finishedRequests, ["sglang:num_requests_total"]),
            Entry(.processStart, ["process_start_time_seconds"]),
        ]
    )

    /// trtllm-serve.
    package static let trtllm = EngineMetrics(
        engine: "trtllm",
        entries: [
            Entry(.waiting, ["trtllm_num_requests_waiting"]),
            Entry(.running, ["trtllm_num_requests_running"]),
            Entry(.kvUse, ["trtllm_kv_cache_utilization"]),
            Entry(.kvBlocks, ["trtllm_kv_cache_max_blocks"]),
            Entry(.kvBlockSize, ["trtllm_kv_cache_tokens_per_block"]),
            Entry(.processStart, ["process_start_time_seconds"]),
        ]
    )

    /// Triton, with the TensorRT-LLM backend's series where they are, else Triton's own queue. Triton's
    /// `nv_inference_exec_count` counts executions since the start: no gauge of running requests, so it is not read.
    package static let triton = EngineMetrics(
        engine: "triton",
        entries: [
            Entry(
                .waiting,
                [
                    MetricSelector("nv_trt_llm_request_metrics", [.init("request_type", "waiting")]),
                    "nv_inference_pending_request_count",
                ]
            ),
            Entry(.running, [MetricSelector("nv_trt_llm_request_metrics", [.init("request_type", "scheduled")])]),
            Entry(.kvUse, [tritonBlocks("fraction")]),
            Entry(.kvBlocks, [tritonBlocks("max")]),
            Entry(.kvBlockSize, [tritonBlocks("tokens_per")]),
        ]
    )

    private static func tritonBlocks(_ type: String) -> MetricSelector {
        MetricSelector("nv_trt_llm_kv_cache_block_metrics", [.init("kv_cache_block_type", type)])
    }
}

extension MetricSelector: ExpressibleByStringLiteral {
    package init(stringLiteral name: String) { self.init(name) }
}

// MARK: - Configuration

extension EngineMetrics {
    /// More engines than there are.
    static let maximum = 50

    /// One element of `engines`: a name, and a series for each quantity that the engine tells.
    static func read(_ value: DocumentValue) -> EngineMetrics? {
        value.object { object in
            let name = object.required("name")?.string(maxLength: 64)
            var entries: [Entry] = []
            for quantity in EngineQuantity.allCases {
                guard let selector = object.optional(quantity.key).flatMap(MetricSelector.read) else { continue }
                entries.append(Entry(quantity, [selector]))
            }
            let loads: [EngineQuantity] = [.waiting, .running, .kvUse]
            if !loads.contains(where: { load in object.optional(load.key) != nil }) {
                object.reject(
                    "names none of \(loads.map(\.key).joined(separator: ", ")): nothing would be known of load"
                )
            }
            return name.map { EngineMetrics(engine: $0, entries: entries) }
        }
    }
}

extension MetricSelector {
    private static let allowed = "must be a metric's name, or name{label=value,…}"

    /// A name with labels, or `{metric: …, label: …}` where the number is in a label.
    static func read(_ value: DocumentValue) -> MetricSelector? {
        guard value.isObject else { return named(value) }
        return value.object { object in
            guard var selector = object.required("metric").flatMap(named) else { return nil }
            guard let label = object.required("label")?.string(maxLength: 200) else { return nil }
            selector.source = .label(label)
            return selector
        }
    }

    private static func named(_ value: DocumentValue) -> MetricSelector? {
        guard let text = value.string(maxLength: 500) else { return nil }
        guard let selector = MetricSelector(parsing: text) else {
            value.reject("\(allowed), not \(text)")
            return nil
        }
        return selector
    }
}
