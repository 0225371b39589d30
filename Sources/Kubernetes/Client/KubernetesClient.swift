// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CCurl
import Synchronization

/// Single requests to the API server: a lease, a review, one object. Each call blocks its thread until the answer is whole.
package final class KubernetesClient: Sendable {
    /// Leases, reviews and lists of one page; more is no answer to these.
    static let maxAnswer = 16 << 20
    /// Handles that wait for the next request, each with its open connection.
    private static let mostIdle = 4

    package let configuration: KubernetesConfiguration
    let calls: any APICalls
    private let idle = Mutex<[APITransfer]>([])

    package convenience init(_ configuration: KubernetesConfiguration) {
        self.init(configuration, calls: LibcurlCalls())
    }

    init(_ configuration: KubernetesConfiguration, calls: any APICalls) {
        self.configuration = configuration
        self.calls = calls
    }

    /// Sends a request and waits for the answer, whatever its status. Any thread may call; calls do not wait for each other.
    package func send(_ request: KubernetesRequest) throws(KubernetesFailure) -> KubernetesResponse {
        guard let transfer = borrow() else { throw .client }
        try transfer.prepare(request, configuration, limit: Self.maxAnswer)
        let code = unsafe calls.perform(transfer.handle)
        if let failure = transfer.failure(code) { throw failure }
        let response = KubernetesResponse(
            status: transfer.status,
            headers: transfer.headers,
            body: transfer.takeReceived()
        )
        giveBack(transfer)
        return response
    }

    /// The same, in the words of HTTP.
    package func request(
        _ method: String,
        _ path: String,
        query: [KubernetesRequest.Parameter] = [],
        body: [UInt8]? = nil,
        contentType: String = "application/json"
    ) throws(KubernetesFailure) -> KubernetesResponse {
        try send(KubernetesRequest(method: method, path: path, query: query, body: body, contentType: contentType))
    }

    private func borrow() -> APITransfer? { idle.withLock { $0.popLast() } ?? APITransfer(calls) }

    private func giveBack(_ transfer: APITransfer) {
        idle.withLock { idle in
            if idle.count < Self.mostIdle { idle.append(transfer) }
        }
    }
}
