// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Synchronization

/// Whether the picker wants requests, and if not, why: for probes and health checks.
final class Readiness: Sendable {
    enum State: String, Sendable {
        case starting = "starting: the fleet has not been read yet"
        case ready = "ok"
        case draining = "draining: the process was told to end"
    }

    private let state = Mutex(State.starting)

    var current: State { state.withLock { $0 } }
    var isReady: Bool { current == .ready }

    /// Draining is final.
    func enter(_ next: State) {
        state.withLock { state in
            if state != .draining { state = next }
        }
    }
}
