// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Synchronization

/// Room for the request bodies that all loops hold at one moment. Bodies are held from their first byte to the decision,
/// which in a queue may be long: without a bound of the whole, slow clients could fill any memory. Sessions count against it
/// what they hold besides: parts of messages that are not whole, and answers that Envoy does not take. What lies in a
/// connection's output, 256 KiB at most, does not count; where it is the last of a body, it keeps the whole until the socket
/// takes it, or the write stall time-out ends the connection.
package final class BodyBudget: Sendable {
    package let limit: Int
    private let taken = Atomic<Int>(0)
    private let refusals = Atomic<Int>(0)

    /// - Parameter limit: bytes.
    package init(limit: Int) { self.limit = limit }

    /// Bytes held now.
    package var used: Int { taken.load(ordering: .relaxed) }
    /// Requests that found no room.
    package var refused: Int { refusals.load(ordering: .relaxed) }

    /// - Returns: false, and takes nothing, where no such room is left.
    func take(_ bytes: Int) -> Bool {
        guard bytes > 0 else { return true }
        let now = taken.add(bytes, ordering: .relaxed).newValue
        guard now > limit else { return true }
        taken.subtract(bytes, ordering: .relaxed)
        refusals.add(1, ordering: .relaxed)
        return false
    }

    /// Takes what is held already, even beyond the limit: new bodies are refused then.
    ///
    /// - Returns: false where it is beyond.
    @discardableResult
    func charge(_ bytes: Int) -> Bool { taken.add(bytes, ordering: .relaxed).newValue <= limit }

    /// Counts a request that was refused for what was charged.
    func noteRefusal() { refusals.add(1, ordering: .relaxed) }

    func give(_ bytes: Int) {
        guard bytes > 0 else { return }
        taken.subtract(bytes, ordering: .relaxed)
    }
}
