// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What the Router has done since it started, and what it holds now.
package struct RouterCounts: Sendable, Hashable, Codable {
    package internal(set) var arrived: UInt64 = 0
    package internal(set) var refused: UInt64 = 0
    package internal(set) var pairs: UInt64 = 0
    package internal(set) var local: UInt64 = 0
    package internal(set) var both: UInt64 = 0
    /// Of `local`: because no prefill pod was left, though the fleet has some.
    package internal(set) var localForLack: UInt64 = 0
    package internal(set) var completed: UInt64 = 0
    package internal(set) var cancelled: UInt64 = 0
    package internal(set) var failed: UInt64 = 0
    package internal(set) var unreachable: UInt64 = 0
    package internal(set) var timedOut: UInt64 = 0
    /// Bound on arrival because the queue was full.
    package internal(set) var overflowed: UInt64 = 0
    /// Dispatched beyond the ledger's bound, so not followed.
    package internal(set) var untracked: UInt64 = 0
    /// Prompt tokens of requests in flight.
    package internal(set) var tokensInFlight = 0

    mutating func dispatched(_ placement: Placement, lacksPrefills: Bool) {
        switch placement {
        case .pair: pairs += 1
        case .local:
            local += 1
            if lacksPrefills { localForLack += 1 }
        case .both: both += 1
        }
    }

    mutating func ended(_ kind: Outcome.Kind) {
        switch kind {
        case .completed: completed += 1
        case .cancelled: cancelled += 1
        case .failed: failed += 1
        case .unreachable: unreachable += 1
        case .timedOut: timedOut += 1
        }
    }
}
