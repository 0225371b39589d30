// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Whether a request for a page may be answered.
package enum Access: Sendable, Hashable {
    case allowed
    /// No token, or one that the API server does not know.
    case unauthenticated(String)
    case forbidden(String)
    /// The API server could not be asked.
    case unknown(String)
}

/// What the API server said of tokens lately. Bounded: the entry that ends first makes room.
package struct AccessCache: Sendable {
    /// A cluster has a few scrapers.
    package static let limit = 256
    /// As long as the API server's own webhooks remember by default (kube-apiserver: 2 minutes and less).
    package static let allowedFor = Seconds(60)
    /// A right that was just given should work soon.
    package static let refusedFor = Seconds(10)

    private var entries: [(token: String, access: Access, until: Instant)] = []

    package init() {}

    package func access(_ token: String, at now: Instant) -> Access? {
        entries.first { $0.token == token && now < $0.until }?.access
    }

    package mutating func keep(_ access: Access, for token: String, at now: Instant) {
        let span: Seconds
        switch access {
        case .allowed: span = Self.allowedFor
        case .unauthenticated, .forbidden: span = Self.refusedFor
        case .unknown: return
        }
        entries.removeAll { $0.token == token || $0.until <= now }
        if entries.count >= Self.limit, let first = entries.indices.min(by: { entries[$0].until < entries[$1].until }) {
            entries.remove(at: first)
        }
        entries.append((token, access, now + span))
    }
}
