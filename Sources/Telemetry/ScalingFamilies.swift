// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What the size of the fleet is decided by. The names are those of docs/autoscaling.md, which charts and rules use too.
package enum ScalingFamilies {
    /// Labels of what is scaled as one.
    package static let labels = ["pool", "role", "accelerator", "model"]

    package static let desiredReplicas = MetricFamily(
        "epp_pd_autoscaling_desired_replicas",
        .gauge,
        "Pods that the group should have to meet the service levels. Combine replicas by max.",
        labels: labels
    )
    package static let replicas = MetricFamily(
        "epp_pd_autoscaling_replicas",
        .gauge,
        "Pods of the group that can be used. Combine replicas by max.",
        labels: labels
    )
    package static let backlog = MetricFamily(
        "epp_pd_autoscaling_backlog_seconds",
        .gauge,
        "Predicted work that waits for the group, in seconds of one pod. Combine replicas by max.",
        labels: labels
    )
    package static let utilization = MetricFamily(
        "epp_pd_autoscaling_utilization_ratio",
        .gauge,
        "Share of what the group can do within the service levels that is in use. Combine replicas by max.",
        labels: labels
    )
    package static let headroom = MetricFamily(
        "epp_pd_autoscaling_headroom_ratio",
        .gauge,
        "Share of what the group can do within the service levels that is free. Combine replicas by max.",
        labels: labels
    )
    package static let kvUse = MetricFamily(
        "epp_pd_autoscaling_kv_use_ratio",
        .gauge,
        "Mean share of KV blocks used by running requests, as scraped. Combine replicas by max.",
        labels: labels
    )
    package static let promptRate = MetricFamily(
        "epp_pd_autoscaling_prompt_tokens_per_second",
        .gauge,
        "Prompt tokens that the group computed per second. Combine replicas by max.",
        labels: labels
    )
    package static let outputRate = MetricFamily(
        "epp_pd_autoscaling_output_tokens_per_second",
        .gauge,
        "Tokens that the group generated per second. Combine replicas by max.",
        labels: labels
    )
    package static let inFlight = MetricFamily(
        "epp_pd_autoscaling_requests_in_flight",
        .gauge,
        "Requests that wait and run in the pods of the group. Combine replicas by max.",
        labels: labels
    )
    package static let attainment = MetricFamily(
        "epp_pd_autoscaling_slo_attainment_ratio",
        .gauge,
        "Share of requests within the TTFT bound, the TPOT bound, or the worse of the two, by role. Combine replicas by max.",
        labels: labels
    )

    // The names that the Inference Extension documents.
    static let poolKVUse = MetricFamily(
        "inference_pool_average_kv_cache_utilization",
        .gauge,
        "Mean share of KV blocks used by running requests in the pool. Combine replicas by max.",
        labels: ["name"]
    )
    static let poolQueue = MetricFamily(
        "inference_pool_average_queue_size",
        .gauge,
        "Mean number of requests in the queues of the pool's model servers. Combine replicas by max.",
        labels: ["name"]
    )
    static let podQueue = MetricFamily(
        "inference_pool_per_pod_queue_size",
        .gauge,
        "Requests in the queue of a model server. Combine replicas by max.",
        labels: ["name", "model_server_pod"]
    )
    static let readyPods = MetricFamily(
        "inference_pool_ready_pods",
        .gauge,
        "Pods of the pool that can be used. Combine replicas by max.",
        labels: ["name"]
    )

    /// Those of groups of pods: what the HPA may ask for.
    package static let ofGroups: [MetricFamily] = [
        desiredReplicas, replicas, backlog, utilization, headroom, kvUse, promptRate, outputRate, inFlight, attainment,
    ]
    /// In the order of the page.
    static let all: [MetricFamily] = ofGroups + [poolKVUse, poolQueue, podQueue, readyPods]
}
