// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Bytes of one call that wait for the peer's window: most are copied in, those of large bodies stay where they lie.
@safe struct SendQueue: ~Copyable {
    /// A part of somebody's memory, and how many copied bytes go out before it, counted from the attachment before.
    @safe private struct Attachment {
        let owner: AnyObject
        var rest: UnsafeRawBufferPointer
        var copiedBefore: Int
    }

    private var copied = ByteQueue()
    /// Oldest first.
    private var attachments: [Attachment] = []
    /// Copied bytes that go out before one of the attachments.
    private var copiedBeforeLast = 0
    private(set) var count = 0

    /// Appends `size` bytes, and says where they are to be written before the next change.
    mutating func append(_ size: Int) -> UnsafeMutableRawBufferPointer {
        count += size
        return unsafe copied.extend(by: size)
    }

    /// Appends bytes that `owner` keeps, unchanged, for as long as it lives.
    mutating func attach(_ bytes: UnsafeRawBufferPointer, of owner: AnyObject) {
        guard unsafe !bytes.isEmpty else { return }
        let before = copied.count - copiedBeforeLast
        attachments.append(unsafe Attachment(owner: owner, rest: bytes, copiedBefore: before))
        copiedBeforeLast += before
        count += bytes.count
    }

    /// Moves `count` bytes, no more than there are, behind what `output` holds.
    mutating func move(_ count: Int, to output: inout ByteQueue) {
        precondition(count >= 0 && count <= self.count, "more bytes moved than there are")
        self.count -= count
        var rest = count
        while rest > 0 {
            guard !attachments.isEmpty else { return moveCopied(rest, to: &output) }
            let copied = min(attachments[0].copiedBefore, rest)
            if copied > 0 {
                moveCopied(copied, to: &output)
                attachments[0].copiedBefore -= copied
                copiedBeforeLast -= copied
                rest -= copied
            }
            rest -= moveAttached(rest, to: &output)
        }
    }

    /// Moves at most `limit` bytes of the first attachment. - Returns: how many.
    private mutating func moveAttached(_ limit: Int, to output: inout ByteQueue) -> Int {
        let piece = unsafe UnsafeRawBufferPointer(rebasing: attachments[0].rest.prefix(limit))
        unsafe output.append(piece)
        unsafe attachments[0].rest = UnsafeRawBufferPointer(rebasing: attachments[0].rest[piece.count...])
        if unsafe attachments[0].rest.isEmpty { attachments.removeFirst() }
        return piece.count
    }

    private mutating func moveCopied(_ count: Int, to output: inout ByteQueue) {
        unsafe output.append(UnsafeRawBufferPointer(rebasing: copied.bytes.prefix(count)))
        copied.removeFirst(count)
    }

    mutating func removeAll() {
        copied.removeAll()
        attachments = []
        copiedBeforeLast = 0
        count = 0
    }
}
