// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Why a page could not be had from an endpoint.
package enum FetchFailure: Error, Sendable, Hashable {
    /// The connection was refused, or no way leads there.
    case refused
    /// No whole answer within the time-out.
    case timedOut
    /// The connection broke before an answer was whole.
    case connectionLost
    /// Larger than a page may be.
    case tooLarge
    /// An answer other than 200.
    case status(Int)
    /// The answer is not what was asked for: none of the engine's names, no model list.
    case garbage
    /// The client itself failed.
    case client

    /// No answer came at all: if this lasts, the endpoint is gone. A wrong answer is a sign of life.
    package var isSilence: Bool {
        switch self {
        case .refused, .timedOut, .connectionLost: true
        case .tooLarge, .status, .garbage, .client: false
        }
    }

    /// The value of a metric's label: few, fixed.
    package var reason: String {
        switch self {
        case .refused: "refused"
        case .timedOut: "timeout"
        case .connectionLost: "connection_lost"
        case .tooLarge: "too_large"
        case .status: "status"
        case .garbage: "garbage"
        case .client: "client"
        }
    }

    package static let reasons = [
        "refused", "timeout", "connection_lost", "too_large", "status", "garbage", "client",
    ]
}
