// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Fleet
import Foundation
import Kubernetes

/// What `validate --live` asks, and where.
struct LiveValidation {
    var timeout: Seconds
    var eventWait: Seconds
    var sendsProbe: Bool
    /// `http://HOST:PORT` of an Envoy's admin page.
    var envoyAdmin: String?
    var streams: Int
    var kubeconfig: String?
    /// namespace/name of the Service that would serve external metrics.
    var externalMetricsService: String?

    func findings(of pods: [EndpointDescription], engines: [EngineMetrics]) -> [LiveFinding] {
        var result = LivePods(engines: engines, timeout: timeout).findings(of: pods)
        result += LiveEvents(wait: eventWait, timeout: timeout, sendsProbe: sendsProbe).findings(of: pods)
        if let envoyAdmin { result += envoy(envoyAdmin) }
        if let externalMetricsService { result.append(apiService(ours: externalMetricsService)) }
        return result
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

    private func apiService(ours: String) -> LiveFinding {
        do {
            let configuration = try KubernetesConfiguration.find(
                file: kubeconfig,
                environment: ProcessInfo.processInfo.environment
            )
            return LiveAPIService.finding(KubernetesClient(configuration), ours: ours)
        } catch {
            return .error(LiveAPIService.name, error.description)
        }
    }
}
