// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Bytes that wait to be sent, of a call or of a connection: most are copied in, those of large bodies stay where they lie.
@safe struct SendQueue: ~Copyable {
    /// Shorter pieces of somebody's memory are copied when they move on: a peer that opens its window byte by byte would
    /// otherwise make as many pieces.
    static let leastAttachedBytes = 4096

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

    var isEmpty: Bool { count == 0 }
    /// Whether all that waits was copied, and lies in one piece.
    var isContiguous: Bool { attachments.isEmpty }

    /// Lends what waits, where it is contiguous: else only what was copied. Not to be kept beyond the next change.
    var bytes: UnsafeRawBufferPointer { unsafe copied.bytes }

    /// Appends `size` bytes, and says where they are to be written before the next change.
    mutating func append(_ size: Int) -> UnsafeMutableRawBufferPointer {
        count += size
        return unsafe copied.extend(by: size)
    }

    /// Copies `bytes`.
    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        count += bytes.count
        unsafe copied.append(bytes)
    }

    /// Appends bytes that `owner` keeps, unchanged, for as long as it lives.
    mutating func attach(_ bytes: UnsafeRawBufferPointer, of owner: AnyObject) {
        guard unsafe !bytes.isEmpty else { return }
        let before = copied.count - copiedBeforeLast
        attachments.append(unsafe Attachment(owner: owner, rest: bytes, copiedBefore: before))
        copiedBeforeLast += before
        count += bytes.count
    }

    /// Moves `count` bytes, no more than there are, behind what `output` holds, which gets a copy of what is attached, or
    /// the attachment.
    mutating func move(_ count: Int, to output: inout SendQueue, copying: Bool) {
        precondition(count >= 0 && count <= self.count, "more bytes moved than there are")
        var rest = count
        while rest > 0 {
            let (piece, owner) = unsafe front(rest)
            if let owner, !copying, piece.count >= Self.leastAttachedBytes {
                unsafe output.attach(piece, of: owner)
            } else {
                unsafe output.append(piece)
            }
            rest -= piece.count
            dropFront(piece.count, isAttached: owner != nil)
        }
    }

    /// Drops `count` bytes, no more than there are, from the front.
    mutating func removeFirst(_ count: Int) {
        precondition(count >= 0 && count <= self.count, "more bytes removed than there are")
        var rest = count
        while rest > 0 {
            let (piece, owner) = unsafe front(rest)
            rest -= piece.count
            dropFront(piece.count, isAttached: owner != nil)
        }
    }

    /// Lends what waits, from its front on, in as many pieces as there is room for. Not to be kept beyond the next change.
    ///
    /// - Returns: how many pieces.
    func lend(_ pieces: UnsafeMutableBufferPointer<UnsafeRawBufferPointer>) -> Int {
        var used = 0
        var rest = unsafe copied.bytes[...]
        func add(_ piece: UnsafeRawBufferPointer) {
            guard unsafe !piece.isEmpty, used < pieces.count else { return }
            unsafe pieces.initializeElement(at: used, to: piece)
            used += 1
        }
        for attachment in attachments {
            unsafe add(UnsafeRawBufferPointer(rebasing: rest.prefix(attachment.copiedBefore)))
            unsafe rest = rest.dropFirst(attachment.copiedBefore)
            unsafe add(attachment.rest)
        }
        unsafe add(UnsafeRawBufferPointer(rebasing: rest))
        return used
    }

    /// The first bytes that lie in one piece, at most `limit`, and whose they are where they are attached.
    private func front(_ limit: Int) -> (UnsafeRawBufferPointer, AnyObject?) {
        guard let first = attachments.first else {
            return unsafe (UnsafeRawBufferPointer(rebasing: copied.bytes.prefix(limit)), nil)
        }
        guard first.copiedBefore == 0 else {
            let count = min(first.copiedBefore, limit)
            return unsafe (UnsafeRawBufferPointer(rebasing: copied.bytes.prefix(count)), nil)
        }
        return unsafe (UnsafeRawBufferPointer(rebasing: first.rest.prefix(limit)), first.owner)
    }

    /// Drops bytes of the first piece.
    private mutating func dropFront(_ count: Int, isAttached: Bool) {
        self.count -= count
        guard isAttached else {
            copied.removeFirst(count)
            guard !attachments.isEmpty else { return }
            attachments[0].copiedBefore -= count
            copiedBeforeLast -= count
            return
        }
        unsafe attachments[0].rest = UnsafeRawBufferPointer(rebasing: attachments[0].rest[count...])
        if unsafe attachments[0].rest.isEmpty { attachments.removeFirst() }
    }

    mutating func removeAll() {
        copied.removeAll()
        attachments = []
        copiedBeforeLast = 0
        count = 0
    }

    /// Swaps its storage, while it is empty, for the spare one, or back.
    mutating func exchangeStorage(with spare: SpareOutput) {
        precondition(isEmpty, "storage that holds bytes")
        spare.exchange(&copied)
    }
}
