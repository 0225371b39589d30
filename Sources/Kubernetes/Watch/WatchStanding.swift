// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// How a watch stands, for people and metrics.
package enum WatchStanding: Sendable, Hashable, CustomStringConvertible {
    /// No list is complete yet.
    case starting
    case live
    /// The server does not know the resource: its CRD is not installed. Asked again now and then.
    case absent
    /// We may not read it.
    case denied(String)
    /// The last attempt failed. What was known before still counts.
    case failing(KubernetesFailure)

    package var description: String {
        switch self {
        case .starting: "starting"
        case .live: "live"
        case .absent: "not installed"
        case .denied(let message): "denied: \(message)"
        case .failing(let failure): failure.description
        }
    }

    /// For labels of metrics.
    package var name: String {
        switch self {
        case .starting: "starting"
        case .live: "live"
        case .absent: "absent"
        case .denied: "denied"
        case .failing: "failing"
        }
    }

    package static let names = ["starting", "live", "absent", "denied", "failing"]

    package var isTrouble: Bool {
        switch self {
        case .denied, .failing: true
        case .starting, .live, .absent: false
        }
    }
}

/// What a watch counts since its start.
package struct WatchCounts: Sendable, Hashable {
    package var lists = 0
    package var watches = 0
    package var events = 0
    package var bookmarks = 0
    /// Lists made anew because the server no longer knew our resourceVersion.
    package var expirations = 0
    package var failures = 0
    /// Lines that are no event of the API.
    package var badLines = 0
}
