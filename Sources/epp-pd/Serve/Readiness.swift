// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Synchronization

/// Whether the picker wants requests, and if not, why: for probes and health checks.
final class Readiness: Sendable {
    enum State: String, Sendable {
        case starting = "starting: the fleet is not known yet"
        case ready = "ok"
        case following = "following: another replica leads"
        case draining = "draining: the process was told to end"
    }

    private struct Content {
        var state = State.starting
        /// Another replica leads.
        var follows = false
        var changed: (@Sendable (Bool) -> Void)?

        var current: State { state == .ready && follows ? .following : state }
    }

    private let content = Mutex(Content())

    var current: State { content.withLock { $0.current } }
    var isReady: Bool { current == .ready }
    var follows: Bool { content.withLock { $0.follows } }

    /// Tells `changed` now, and after each change, whether requests are wanted.
    func onChange(_ changed: @escaping @Sendable (Bool) -> Void) {
        content.withLock { content in
            content.changed = changed
            changed(content.current == .ready)
        }
    }

    /// Draining is final.
    func enter(_ next: State) {
        content.withLock { content in
            guard content.state != .draining else { return }
            content.state = next
            content.changed?(content.current == .ready)
        }
    }

    /// Who follows is ready in all but this: it takes over when it is told to lead.
    func follow(_ follows: Bool) {
        content.withLock { content in
            content.follows = follows
            content.changed?(content.current == .ready)
        }
    }
}
