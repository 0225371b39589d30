// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Synchronization

/// What the sessions of one loop have seen. Written by that loop alone, read by anyone.
package final class HTTP2Counters: Sendable {
    package let streamsOpened = Atomic<UInt64>(0)
    package let streamsClosed = Atomic<UInt64>(0)
    /// Streams that the peer ended by RST_STREAM before our trailers: Envoy's normal end.
    package let streamsReset = Atomic<UInt64>(0)
    /// Streams that ended because the peer broke gRPC or a limit.
    package let streamsViolated = Atomic<UInt64>(0)
    package let messagesReceived = Atomic<UInt64>(0)
    package let messagesSent = Atomic<UInt64>(0)

    package init() {}
}

extension Atomic where Value == UInt64 {
    /// Adds without a locked instruction. Only for a counter that a single thread writes.
    package func add(_ count: UInt64 = 1) {
        store(load(ordering: .relaxed) &+ count, ordering: .relaxed)
    }
}
