// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Fleet
import Kubernetes

/// What `validate --live` asks, and where.
struct LiveValidation {
    var timeout: Seconds
    var eventWait: Seconds
    var sendsProbe: Bool
    /// `http://HOST:PORT` of an Envoy's admin page.
    var envoyAdmin: String?
    var streams: Int
    /// Where the API server is, and which pods of its cluster are meant, if any are.
    var cluster: ClusterOptions
    /// namespace/name of the Service that would serve external metrics.
    var externalMetricsService: String?

    /// `pods`: of a fleet file.
    func findings(
        of pods: [EndpointDescription],
        _ configuration: PickerConfiguration,
        _ catalog: ProfileCatalog?
    ) -> [LiveFinding] {
        var pods = pods
        var result: [LiveFinding] = []
        if cluster.isGiven || externalMetricsService != nil {
            do {
                let client = KubernetesClient(try cluster.configuration())
                if cluster.isGiven {
                    let found = LiveCluster(options: cluster, timeout: timeout).find(client, configuration, catalog)
                    result += found.findings
                    pods += found.pods
                }
                result.append(apiService(client))
            } catch {
                result.append(.error("cluster", error.description))
            }
        }
        result += LivePods(engines: configuration.engines, timeout: timeout).findings(of: pods)
        result += LiveEvents(wait: eventWait, timeout: timeout, sendsProbe: sendsProbe).findings(of: pods)
        if let envoyAdmin { result += envoy(envoyAdmin) }
        return result
    }

    /// An error where ours was asked for by name. Else only a warning: with KEDA or an adapter for Prometheus the place is
    /// theirs, rightly.
    private func apiService(_ client: KubernetesClient) -> LiveFinding {
        if let externalMetricsService { return LiveAPIService.finding(client, ours: externalMetricsService) }
        let ours = "\(cluster.selection(client).namespace)/\(LiveAPIService.usualService)"
        var finding = LiveAPIService.finding(client, ours: ours)
        if finding.grade == .error { finding.grade = .warning }
        return finding
    }

    private func envoy(_ admin: String) -> [LiveFinding] {
        let url = (admin.hasSuffix("/") ? String(admin.dropLast()) : admin) + "/config_dump"
        switch LivePage.get(url, timeout: timeout) {
        case .failure(let failure): return [.error(admin, LivePage.text(of: failure))]
        case .success(let answer):
            guard answer.status == 200 else { return [.error(admin, LivePage.text(of: .status(answer.status)))] }
            return LiveEnvoy(dump: answer.body, subject: admin, streams: streams).findings
        }
    }
}
