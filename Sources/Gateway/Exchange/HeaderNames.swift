// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The names of the headers and metadata that the exchange reads and writes. All in lower case.
package struct HeaderNames: Sendable, Hashable {
    /// Where the request goes: a header, and a key of the dynamic metadata.
    package var destination = "x-gateway-destination-endpoint"
    /// Metadata namespace of the destination and of the served endpoint.
    package var destinationNamespace = "envoy.lb"
    package var prefiller = "x-prefiller-host-port"
    package var kvSource = "x-kv-cache-source-host-port"
    /// Where Envoy says who may be picked.
    package var subset = "x-gateway-destination-endpoint-subset"
    package var subsetNamespace = "envoy.lb.subset_hint"
    /// Where Envoy says who answered.
    package var served = "x-gateway-destination-endpoint-served"

    /// Tells clients of the decision, where that is asked for.
    package var decision = "x-epp-pd-decision"

    /// What the client or Envoy calls the request. nil: nobody asks.
    package var requestID: String? = "x-request-id"
    /// The first that a request carries counts: a new name before its older alias.
    package var sloTTFT = ["x-llm-d-slo-ttft-ms", "x-slo-ttft-ms"]
    package var sloTPOT = ["x-llm-d-slo-tpot-ms", "x-slo-tpot-ms"]
    package var objective = ["x-llm-d-inference-objective", "x-gateway-inference-objective"]
    /// Requests of one session are kept together where traffic is split.
    package var session = ["x-session-id", "x-session-token"]

    /// Headers that steer a request inside the cluster. A client could use each to choose what only the picker may choose,
    /// so all are removed from every request unless the picker sets them.
    package static let steering = [
        "x-gateway-destination-endpoint", "x-gateway-destination-endpoint-subset",
        "x-gateway-destination-endpoint-served", "x-prefiller-host-port", "x-encoder-hosts-ports",
        "x-kv-cache-source-host-port", "x-data-parallel-host-port", "x-data-parallel-rank",
    ]

    package init() {}

    /// What is removed from a request on which the headers `set` are set, in a fixed order: the standard names, then the
    /// configured ones that differ from them.
    func removed(setting set: [String]) -> [String] {
        var names = Self.steering
        for name in [destination, prefiller, kvSource, subset, served] where !names.contains(name) {
            names.append(name)
        }
        return names.filter { !set.contains($0) }
    }
}
