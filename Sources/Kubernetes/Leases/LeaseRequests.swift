// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

extension KubernetesClient {
    /// A renewal that takes longer is as good as lost, and the next one is due.
    private static let leaseTimeout = Seconds(1)

    /// Sends one request of an election, and waits for its answer.
    package func send(_ request: LeaseElection.Request, name: String, namespace: String) -> LeaseElection.Answer {
        let collection = "/apis/coordination.k8s.io/v1/namespaces/\(namespace)/leases"
        let sent =
            switch request {
            case .read: KubernetesRequest(path: "\(collection)/\(name)", timeout: Self.leaseTimeout)
            case .create(let lease):
                KubernetesRequest(method: "POST", path: collection, body: lease.json, timeout: Self.leaseTimeout)
            case .replace(let lease):
                KubernetesRequest(
                    method: "PUT",
                    path: "\(collection)/\(name)",
                    body: lease.json,
                    timeout: Self.leaseTimeout
                )
            }
        do throws(KubernetesFailure) {
            return LeaseElection.Answer(try send(sent))
        } catch {
            return .failed(error.description)
        }
    }
}

extension LeaseElection.Answer {
    init(_ response: KubernetesResponse) {
        switch response.status {
        case 200...299:
            self = Lease(json: response.body).map { .lease($0) } ?? .failed("the answer is no Lease")
        case 404: self = .absent
        case 409: self = .conflict
        default: self = .failed(KubernetesFailure.status(response.status, response.message).description)
        }
    }
}
