// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import Synchronization
import Transport

/// The health services of all loops, told of changes together.
///
/// `@unchecked Sendable`: the list is behind its mutex; each service in it is touched by its own loop alone.
final class LoopHealth: @unchecked Sendable {
    private struct Entry {
        var loop: EventLoop
        var service: HealthService
    }

    /// `@unchecked Sendable`: a copy is taken out of the mutex to post to each loop; the services in it stay with theirs.
    private struct State: @unchecked Sendable {
        var entries: [Entry] = []
        var isServing = false
    }

    private let state = Mutex(State())

    /// Called on the loop's thread.
    func make(on loop: EventLoop, _ names: [String]) -> HealthService {
        state.withLock { state in
            let service = HealthService(
                names.map { (name: $0, isServing: $0 == Self.livenessName || state.isServing) }
            )
            state.entries.append(Entry(loop: loop, service: service))
            return service
        }
    }

    /// A living process that is not ready must not be killed for it.
    private static let livenessName = "liveness"

    /// An open Watch would hold up the end of a drain. May be called on any thread.
    func endWatches() {
        let state = state.withLock { $0 }
        for index in state.entries.indices {
            state.entries[index].loop.post { state.entries[index].service.endWatches() }
        }
    }

    /// May be called on any thread.
    func set(_ isServing: Bool, _ names: [String]) {
        let entries = state.withLock { state in
            state.isServing = isServing
            return state
        }
        for index in entries.entries.indices {
            entries.entries[index].loop.post {
                for name in names where name != Self.livenessName {
                    entries.entries[index].service.set(name, isServing: isServing)
                }
            }
        }
    }
}
