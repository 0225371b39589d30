// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// In which pool the destination of a request must lie, told by the Service that the gateway asked.
///
/// A gateway calls the picker that the InferencePool of a request's route names (`endpointPickerRef`). Where pools of one
/// picker name Services of their own, all to the same pods, the `:authority` of the call tells them apart: Envoy puts the
/// name of the cluster there, or what it is told to, and controllers make both of the Service's host. Nothing else in the
/// endpoint picker protocol names the pool.
package struct RoutePools: Sendable, Hashable {
    private struct Asked: Sendable, Hashable {
        var service: String
        var pool: String
    }

    /// Empty where the Service tells nothing: all pools name the same one.
    private var pools: [Asked] = []
    private var namespace = ""

    package init() {}

    /// - Parameters:
    ///   - states: of the pools, in the order of the selection. Of those that name one Service the first has it.
    ///   - namespace: where the pools are, and their pickers with them.
    package init(_ states: [ClusterState.Pool], namespace: String) {
        self.namespace = namespace
        for state in states {
            guard let service = state.picker, !pools.contains(where: { $0.service == service }) else { continue }
            pools.append(Asked(service: service, pool: state.name))
        }
        if pools.count < 2 { pools.removeAll() }
    }

    /// - Parameter authority: such as `epp.inference.svc:9002`, or Istio's `outbound|9002||epp.inference.svc.cluster.local`.
    /// - Returns: nil where it names the Service of none of the pools.
    package func pool(asked authority: String) -> String? {
        guard !pools.isEmpty else { return nil }
        let host = authority.split(separator: "|").last?.split(separator: ":").first ?? ""
        let labels = host.split(separator: ".", maxSplits: 2)
        guard let name = labels.first, labels.count < 2 || labels[1] == namespace else { return nil }
        return pools.first { $0.service == name }?.pool
    }
}
