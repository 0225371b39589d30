// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser

/// Flags of several replicas of the picker, and of who may read its metrics.
struct ReplicaOptions: ParsableArguments {
    @Option(help: "One replica at a time serves, elected by a Lease; the others are warm and not ready.")
    var haEnableLeaderElection = false
    @Option(help: "Namespace of the Lease. Default: the pod's own, or the kubeconfig's.")
    var leaderElectionNamespace: String?
    @Option(help: "Name of the Lease. Default: epp-<namespace>-<first pool, or fleet>.epp-pd.io.")
    var leaderElectionName: String?
    @Option(
        help: "Ask the cluster who may read /metrics. Default: true where pods come from a cluster, false with --fleet."
    )
    var metricsEndpointAuth: Bool?
}
