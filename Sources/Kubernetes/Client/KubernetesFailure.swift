// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Why a request to the API server has no answer of use.
package enum KubernetesFailure: Error, Sendable, Hashable, CustomStringConvertible {
    /// A file of the credentials cannot be read.
    case credentials(String)
    case unreachable(String)
    case timedOut
    /// The connection ended before the answer did.
    case connectionLost
    case tls(String)
    case tooLarge
    /// Not what the API server would say.
    case garbage(String)
    /// An HTTP status, and what the server's Status object says.
    case status(Int, String)
    /// libcurl has no memory or no thread.
    case client

    package var description: String {
        switch self {
        case .credentials(let why): "credentials cannot be read: \(why)"
        case .unreachable(let why): "cannot be reached: \(why)"
        case .timedOut: "did not answer in time"
        case .connectionLost: "the connection was lost"
        case .tls(let why): "TLS failed: \(why)"
        case .tooLarge: "the answer is too large"
        case .garbage(let why): "answered garbage: \(why)"
        case .status(let code, let message): "answered \(code)" + (message.isEmpty ? "" : ": \(message)")
        case .client: "libcurl has no resources"
        }
    }

    /// For labels of metrics.
    package var reason: String {
        switch self {
        case .credentials: "credentials"
        case .unreachable: "unreachable"
        case .timedOut: "timed_out"
        case .connectionLost: "connection_lost"
        case .tls: "tls"
        case .tooLarge: "too_large"
        case .garbage: "garbage"
        case .status: "status"
        case .client: "client"
        }
    }

    /// Every `reason`.
    package static let reasons = [
        "credentials", "unreachable", "timed_out", "connection_lost", "tls", "too_large", "garbage", "status", "client",
    ]
}
