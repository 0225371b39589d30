// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Dispatch
import Fleet
import Kubernetes
import Synchronization

/// Lets those read /metrics whom the cluster allows to: asks the API server, and remembers its answers for a while.
final class MetricsAccess: Sendable {
    private let client: KubernetesClient
    private let clock = ModelClock()
    private let cache = Mutex(AccessCache())
    /// Reviews block their thread.
    private let queue = DispatchQueue(label: "reviews", qos: .utility, attributes: .concurrent)

    init(client: KubernetesClient) { self.client = client }

    /// `authorization`: the header's value. The API server takes tokens of at most some kilobytes.
    func access(authorization: String?, path: String) async -> Access {
        guard let token = Self.bearer(authorization) else {
            return .unauthenticated("send a bearer token: Authorization: Bearer …")
        }
        if let known = cache.withLock({ $0.access(token, at: clock.now) }) { return known }
        return await withCheckedContinuation { continuation in
            queue.async { [self] in
                let access = client.access(token: token, path: path)
                cache.withLock { $0.keep(access, for: token, at: clock.now) }
                continuation.resume(returning: access)
            }
        }
    }

    private static let longestToken = 16 << 10

    private static func bearer(_ header: String?) -> String? {
        guard let header, header.utf8.count <= longestToken else { return nil }
        guard header.lowercased().hasPrefix("bearer ") else { return nil }
        let token = header.dropFirst("bearer ".count).drop { $0 == " " }
        return token.isEmpty ? nil : String(token)
    }
}
