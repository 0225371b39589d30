// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import Foundation
import Kubernetes

/// Whether the cluster's one place for external metrics is free, or ours.
enum LiveAPIService {
    static let name = "v1beta1.external.metrics.k8s.io"
    /// The Service of deploy/.
    static let usualService = "epp-pd-external-metrics"

    private struct APIService: Decodable {
        struct Spec: Decodable {
            struct Service: Decodable {
                var name: String
                var namespace: String
            }

            var service: Service?
        }

        var spec: Spec
    }

    /// `ours`: namespace/name of the Service that serves the API.
    static func finding(_ client: KubernetesClient, ours: String) -> LiveFinding {
        let path = "/apis/apiregistration.k8s.io/v1/apiservices/\(name)"
        do {
            let answer = try client.send(KubernetesRequest(method: "GET", path: path))
            return judge(status: answer.status, body: answer.body, message: answer.message, ours: ours)
        } catch {
            return .error(name, "the API server cannot be asked: \(error)")
        }
    }

    static func judge(status: Int, body: [UInt8], message: String, ours: String) -> LiveFinding {
        if status == 404 { return .ok(name, "does not exist: epp-pd may serve it") }
        guard status == 200 else { return .error(name, "the API server answers \(status): \(message)") }
        guard let found = try? JSONDecoder().decode(APIService.self, from: Data(body)) else {
            return .error(name, "the API server's answer cannot be read")
        }
        guard let service = found.spec.service else {
            return .error(name, "is served by the API server itself: do not install ours beside it")
        }
        let place = "\(service.namespace)/\(service.name)"
        return place == ours
            ? .ok(name, "is ours: \(place)")
            : .error(name, "belongs to \(place): a cluster has one provider; use that one, or KEDA, or Prometheus")
    }
}
