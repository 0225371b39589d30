// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Synchronization

/// Whether the picker wants requests, and if not, why: for probes and health checks.
final class Readiness: Sendable {
    enum State: String, Sendable {
        case starting = "starting: the fleet has not been read yet"
        case ready = "ok"
        case following = "following: another replica leads"
        case draining = "draining: the process was told to end"
    }

    private struct Content {
        var state = State.starting
        /// Another replica leads.
        var follows = false

        var current: State { state == .ready && follows ? .following : state }
    }

    private let content = Mutex(Content())

    var current: State { content.withLock { $0.current } }
    var isReady: Bool { current == .ready }
    var follows: Bool { content.withLock { $0.follows } }

    /// Draining is final.
    func enter(_ next: State) {
        content.withLock { content in
            if content.state != .draining { content.state = next }
        }
    }

    /// Who follows is ready in all but this: it takes over when it is told to lead.
    func follow(_ follows: Bool) { content.withLock { $0.follows = follows } }
}
