// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Storage for serialized frames that the sessions of one loop share: each borrows it for the time of a flush.
///
/// Nearly always a socket takes all at once, so one piece of storage serves all connections; it stays in the cache, grows
/// once, and idle connections hold none. A session whose socket is full keeps what it borrowed until that is sent, and the
/// next one begins a new piece. Confined to one loop.
package final class SpareOutput {
    /// What one flush serializes before it sends, and a frame more.
    private static let keptBytes = 320 << 10

    private var queue = ByteQueue(keptWhenEmpty: keptBytes)

    package init() {}

    /// Swaps a session's empty queue for the spare one, or back.
    func exchange(_ other: inout ByteQueue) { swap(&queue, &other) }
}
