// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Every metric that epp-pd publishes. docs/metrics.md is held to this list by a test.
package enum MetricFamilies {
    /// Labels of everything that is known per group of like pods.
    package static let groupLabels = ["pool", "role", "accelerator"]

    // Requests.
    static let requests = MetricFamily(
        "epp_pd_requests_total",
        .counter,
        "Requests that ended, by model and outcome. Models that no pod serves are counted as other.",
        labels: ["model", "outcome"]
    )
    static let refusals = MetricFamily(
        "epp_pd_refusals_total",
        .counter,
        "Requests that the picker refused, by reason.",
        labels: ["reason"]
    )
    static let immediateAnswers = MetricFamily(
        "epp_pd_immediate_answers_total",
        .counter,
        "HTTP answers of the picker's own, by status: malformed requests included.",
        labels: ["status"]
    )
    static let placements = MetricFamily(
        "epp_pd_placements_total",
        .counter,
        "Requests sent to pods: as a pair, with local prefill on a decode pod, or to a pod of both roles.",
        labels: ["kind"]
    )
    static let requestsInFlight = MetricFamily(
        "epp_pd_requests_in_flight",
        .gauge,
        "Requests that arrived and have not ended."
    )
    static let tokensInFlight = MetricFamily(
        "epp_pd_tokens_in_flight",
        .gauge,
        "Prompt tokens of the requests that were sent to pods and have not ended."
    )
    static let requestsWaiting = MetricFamily(
        "epp_pd_requests_waiting",
        .gauge,
        "Requests that wait in the picker for a pod."
    )
    static let requestsSetAside = MetricFamily(
        "epp_pd_requests_set_aside",
        .gauge,
        "Of those that wait the ones whose prompts are the longest while more is asked of the pods than they can do in time."
    )
    static let lateBinding = MetricFamily(
        "epp_pd_late_binding",
        .gauge,
        "1 while first tokens and predictions allow a pool's requests to wait in the queue, 0 while all are bound on arrival.",
        labels: ["pool"]
    )
    static let valueOfTime = MetricFamily(
        "epp_pd_value_of_time_dollars",
        .gauge,
        "What a second of waiting is worth now, by the lowest priority of the class; none: the class has no lower end.",
        labels: ["from_priority"]
    )
    static let sloMissPrice = MetricFamily(
        "epp_pd_slo_miss_price_dollars",
        .gauge,
        "What a request that misses its service level costs, by the lowest priority of the class.",
        labels: ["from_priority"]
    )
    static let queueOverflows = MetricFamily(
        "epp_pd_queue_overflows_total",
        .counter,
        "Requests that were placed on arrival because the queue was full."
    )
    static let localPrefillsForLack = MetricFamily(
        "epp_pd_local_prefills_forced_total",
        .counter,
        "Prompts that a decode pod computed itself because no prefill pod was left."
    )
    static let bodyBytes = MetricFamily(
        "epp_pd_request_body_bytes",
        .gauge,
        "Memory of the request bodies that are on their way or wait for their decision."
    )
    static let bodiesRefused = MetricFamily(
        "epp_pd_request_bodies_refused_total",
        .counter,
        "Requests that were refused because the memory for bodies was used up."
    )
    static let decisionDuration = MetricFamily(
        "epp_pd_decision_duration_seconds",
        .histogram,
        "Wall time of one decision, from the request to the choice."
    )
    static let requestDuration = MetricFamily(
        "epp_pd_request_duration_seconds",
        .histogram,
        "Time from arrival to the end of the answer, by the group of the pod that answered.",
        labels: groupLabels
    )

    // Predicted and observed.
    static let ttftObserved = MetricFamily(
        "epp_pd_ttft_seconds",
        .histogram,
        "Time from arrival to the first token of streamed answers, by the group of the pod that computed the prompt.",
        labels: groupLabels
    )
    static let ttftPredicted = MetricFamily(
        "epp_pd_predicted_ttft_seconds",
        .histogram,
        "Predicted time to first token of the requests sent, by the group of the pod that computes the prompt.",
        labels: groupLabels
    )
    static let ttftRatio = MetricFamily(
        "epp_pd_ttft_observed_to_predicted_ratio",
        .histogram,
        "Observed time to first token divided by the predicted one.",
        labels: groupLabels
    )
    static let tpotObserved = MetricFamily(
        "epp_pd_tpot_seconds",
        .histogram,
        "Time per output token after the first of streamed answers, by the group of the pod that decoded.",
        labels: groupLabels
    )
    static let tpotPredicted = MetricFamily(
        "epp_pd_predicted_tpot_seconds",
        .histogram,
        "Predicted time per output token of the requests sent, by the group of the pod that decodes.",
        labels: groupLabels
    )
    static let tpotRatio = MetricFamily(
        "epp_pd_tpot_observed_to_predicted_ratio",
        .histogram,
        "Observed time per output token divided by the predicted one.",
        labels: groupLabels
    )
    static let serviceLevels = MetricFamily(
        "epp_pd_service_levels_total",
        .counter,
        "Requests with a bound on their time to first token or per output token, by whether it was met.",
        labels: ["bound", "result"]
    )
    static let predictedDollars = MetricFamily(
        "epp_pd_predicted_dollars_total",
        .counter,
        "Predicted dollars of accelerators kept busy by the requests sent, by the group of the pod that answers.",
        labels: groupLabels
    )

    // Tokens.
    static let promptTokens = MetricFamily(
        "epp_pd_prompt_tokens_total",
        .counter,
        "Prompt tokens that answers reported.",
        labels: ["model"]
    )
    static let cachedTokens = MetricFamily(
        "epp_pd_cached_tokens_total",
        .counter,
        "Prompt tokens that answers reported as found in the prefix cache.",
        labels: ["model"]
    )
    static let outputTokens = MetricFamily(
        "epp_pd_output_tokens_total",
        .counter,
        "Output tokens that answers reported.",
        labels: ["model"]
    )
    static let predictedCachedTokens = MetricFamily(
        "epp_pd_predicted_cached_tokens_total",
        .counter,
        "Prompt tokens of the requests sent that were expected in the prefix cache."
    )
    static let prefixHits = MetricFamily(
        "epp_pd_prefix_lookups_total",
        .counter,
        "Requests sent, by whether some of their prompt was expected in the prefix cache of the chosen pod.",
        labels: ["result"]
    )

    // Groups of pods, as scraped.
    static let endpoints = MetricFamily(
        "epp_pd_pool_endpoints",
        .gauge,
        "Endpoints that discovery names.",
        labels: groupLabels
    )
    static let endpointsAvailable = MetricFamily(
        "epp_pd_pool_endpoints_available",
        .gauge,
        "Endpoints that are candidates: neither unreachable nor paused for what their answers showed.",
        labels: groupLabels
    )
    static let endpointsUnknown = MetricFamily(
        "epp_pd_pool_endpoints_load_unknown",
        .gauge,
        "Endpoints whose load is unknown: never scraped, or the last good scrape is stale.",
        labels: groupLabels
    )
    static let poolWaiting = MetricFamily(
        "epp_pd_pool_queued_requests",
        .gauge,
        "Requests in the engines' queues, as scraped. Combine replicas by max.",
        labels: groupLabels
    )
    static let poolRunning = MetricFamily(
        "epp_pd_pool_running_requests",
        .gauge,
        "Requests in the engines' batches, as scraped. Combine replicas by max.",
        labels: groupLabels
    )
    static let poolKVUse = MetricFamily(
        "epp_pd_pool_kv_use_ratio",
        .gauge,
        "Mean share of KV blocks used by running requests, as scraped. Combine replicas by max.",
        labels: groupLabels
    )
    static let poolRequests = MetricFamily(
        "epp_pd_pool_requests_in_flight",
        .gauge,
        "Requests of this picker that were sent to the group and have not ended. Combine replicas by sum.",
        labels: groupLabels
    )
    static let poolTokens = MetricFamily(
        "epp_pd_pool_prefill_tokens_in_flight",
        .gauge,
        "Prompt tokens of this picker sent to the group whose first token was not seen yet. Combine replicas by sum.",
        labels: groupLabels
    )

    // Knowledge.
    static let scrapes = MetricFamily("epp_pd_scrapes_total", .counter, "Metrics pages of endpoints that were read.")
    static let scrapeErrors = MetricFamily(
        "epp_pd_scrape_errors_total",
        .counter,
        "Metrics pages of endpoints that could not be read, by reason.",
        labels: ["reason"]
    )
    static let modelLists = MetricFamily(
        "epp_pd_model_list_reads_total",
        .counter,
        "Readings of the endpoints' model lists.",
        labels: ["result"]
    )
    static let snapshots = MetricFamily(
        "epp_pd_fleet_snapshots_total",
        .counter,
        "Changes of the fleet's state that were handed to decisions."
    )
    static let reloads = MetricFamily(
        "epp_pd_fleet_reloads_total",
        .counter,
        "Readings of a changed fleet file.",
        labels: ["result"]
    )
    static let fileIsBad = MetricFamily(
        "epp_pd_fleet_file_has_errors",
        .gauge,
        "1 while the fleet file as it is now has errors and the last good one is in use."
    )
    static let profiles = MetricFamily(
        "epp_pd_endpoint_profiles",
        .gauge,
        "Endpoints by where the coefficients of their profile come from.",
        labels: ["source"]
    )
    static let indexBytes = MetricFamily(
        "epp_pd_prefix_index_bytes",
        .gauge,
        "Memory of the prefix index."
    )
    static let indexBlocks = MetricFamily(
        "epp_pd_prefix_index_blocks",
        .gauge,
        "Different blocks that the prefix index knows."
    )

    // The prefix index.
    static let indexHeldBlocks = MetricFamily(
        "epp_pd_prefix_index_held_blocks",
        .gauge,
        "Pairs of a holder and a block that the prefix index knows."
    )
    static let indexBudget = MetricFamily(
        "epp_pd_prefix_index_budget_bytes",
        .gauge,
        "Memory that the prefix index never exceeds."
    )
    static let indexEvictions = MetricFamily(
        "epp_pd_prefix_index_evicted_blocks_total",
        .counter,
        "Blocks that the prefix index forgot, the coldest first, to keep its budget."
    )
    static let indexDomains = MetricFamily(
        "epp_pd_prefix_index_hash_domains",
        .gauge,
        "Groups of engines whose hashes are equal for equal content."
    )
    static let kvEvents = MetricFamily(
        "epp_pd_kv_event_blocks_total",
        .counter,
        "Blocks and events of the engines' KV events, by what became of them.",
        labels: ["result"]
    )
    static let kvBatches = MetricFamily(
        "epp_pd_kv_event_batches_total",
        .counter,
        "Batches of KV events that were received.",
        labels: ["result"]
    )
    static let kvGaps = MetricFamily(
        "epp_pd_kv_event_gaps_total",
        .counter,
        "Gaps in the publishers' sequence numbers."
    )
    static let kvLost = MetricFamily(
        "epp_pd_kv_event_lost_batches_total",
        .counter,
        "Batches of KV events that no replay brought back."
    )
    static let kvRestarts = MetricFamily(
        "epp_pd_kv_event_restarts_total",
        .counter,
        "Publishers that began anew."
    )
    static let kvReplays = MetricFamily(
        "epp_pd_kv_event_replays_total",
        .counter,
        "Replays that were asked for, and those that failed.",
        labels: ["result"]
    )
    static let kvPublishers = MetricFamily(
        "epp_pd_kv_event_publishers",
        .gauge,
        "Publishers of KV events: all subscribed to, doubtful after a gap, and impossible to subscribe to.",
        labels: ["state"]
    )
    static let hitTokens = MetricFamily(
        "epp_pd_prefix_hit_tokens",
        .gauge,
        "Prompt tokens of recent requests expected in the pods' caches, found there, and the sum of the differences.",
        labels: ["source"]
    )
    static let hitRatio = MetricFamily(
        "epp_pd_prefix_hit_ratio",
        .gauge,
        "Tokens found in caches: of those expected (found), and of all prompt tokens, by the engines' counters (engine).",
        labels: ["source"]
    )
    static let distrusted = MetricFamily(
        "epp_pd_prefix_distrusted_endpoints",
        .gauge,
        "Endpoints where so much less was found than expected that their part of the index counts less."
    )
    static let prefixKeys = MetricFamily(
        "epp_pd_prefix_keys_total",
        .counter,
        "Requests by where the keys for exact lookups came from.",
        labels: ["source"]
    )

    // The gateway and the process.
    static let servedElsewhere = MetricFamily(
        "epp_pd_served_elsewhere_total",
        .counter,
        "Requests that Envoy served elsewhere than picked."
    )
    static let protocolViolations = MetricFamily(
        "epp_pd_protocol_violations_total",
        .counter,
        "External processing calls that broke the protocol."
    )
    static let decisionLogDropped = MetricFamily(
        "epp_pd_decision_log_dropped_total",
        .counter,
        "Decisions that the decision log could not take."
    )
    static let processorTime = MetricFamily(
        "epp_pd_process_cpu_seconds_total",
        .counter,
        "Processor time of the process, user and system."
    )
    static let residentMemory = MetricFamily(
        "epp_pd_process_resident_memory_bytes",
        .gauge,
        "Resident memory of the process."
    )
    static let ready = MetricFamily("epp_pd_ready", .gauge, "1 while the picker takes requests.")
    static let leader = MetricFamily(
        "epp_pd_leader",
        .gauge,
        "1 while the picker leads its replicas, or nobody is elected."
    )
    static let buildInfo = MetricFamily(
        "epp_pd_build_info",
        .gauge,
        "The version, as a label; the value is 1.",
        labels: ["version"]
    )

    /// In the order of the page.
    package static let all: [MetricFamily] = own + ScalingFamilies.all

    private static let own: [MetricFamily] = [
        requests, refusals, immediateAnswers, placements, requestsInFlight, tokensInFlight, requestsWaiting,
        requestsSetAside,
        lateBinding, valueOfTime, sloMissPrice, queueOverflows, localPrefillsForLack, bodyBytes, bodiesRefused,
        decisionDuration, requestDuration,
        ttftObserved, ttftPredicted, ttftRatio, tpotObserved, tpotPredicted,
        tpotRatio, serviceLevels, predictedDollars, promptTokens, cachedTokens, outputTokens, predictedCachedTokens,
        prefixHits, endpoints, endpointsAvailable, endpointsUnknown, poolWaiting, poolRunning, poolKVUse, poolRequests,
        poolTokens, scrapes, scrapeErrors, modelLists, snapshots, reloads, fileIsBad,
        watchStanding, watchLists, watchEvents, watchFailures, invalidObjects, poolTrouble,
        podsWithoutProfile,
        profiles, indexBytes, indexBlocks,
        indexHeldBlocks, indexBudget, indexEvictions, indexDomains, kvEvents, kvBatches, kvGaps, kvLost, kvRestarts,
        kvReplays, kvPublishers, hitTokens, hitRatio, distrusted, prefixKeys,
        servedElsewhere, protocolViolations, decisionLogDropped, processorTime, residentMemory, ready, leader,
        buildInfo,
    ]
}
