// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CExtProc

/// Memory for the messages of one loop: taken by moving a mark forward, given back all at once at the end of a scope.
///
/// Scopes nest like calls, because answering one exchange can make the picker answer another. Confined to one loop.
@safe final class MessageArena {
    /// Holds every message but those with large bodies: the headers of a request take about 4 KiB decoded.
    static let blockSize = 64 << 10
    /// protobuf-c's `ProtobufCMessage` holds pointers and doubles; malloc promises as much.
    private static let alignment = 16

    private let block: UnsafeMutableRawPointer
    private var used = 0
    /// What did not fit the block, in order of allocation.
    private var large: [UnsafeMutableRawPointer] = unsafe []
    /// Bytes that decoding may still take.
    private var budget = 0
    /// What protobuf-c allocates through. At one place for as long as the arena lives.
    private let allocator: UnsafeMutablePointer<ProtobufCAllocator>

    init() {
        unsafe block = .allocate(byteCount: Self.blockSize, alignment: Self.alignment)
        unsafe allocator = .allocate(capacity: 1)
        unsafe allocator.initialize(
            to: ProtobufCAllocator(
                alloc: { context, size in
                    guard let context = unsafe context else { return nil }
                    // The context is the arena that owns the allocator, alive for the whole call. Taking it without counting
                    // its references saves a tenth of an exchange's time: protobuf-c asks some 60 times.
                    return unsafe Unmanaged<MessageArena>.fromOpaque(context)._withUnsafeGuaranteedRef { arena in
                        unsafe arena.spend(size)
                    }
                },
                free: { _, _ in },
                allocator_data: nil
            )
        )
        unsafe allocator.pointee.allocator_data = Unmanaged.passUnretained(self).toOpaque()
    }

    deinit {
        release(downTo: 0)
        unsafe block.deallocate()
        unsafe allocator.deallocate()
    }

    /// Runs `body`, then takes back all that was allocated in it.
    func scope<Result>(_ body: () -> Result) -> Result {
        let mark = unsafe (used, large.count, budget)
        defer {
            used = mark.0
            release(downTo: mark.1)
            budget = mark.2
        }
        return body()
    }

    /// Runs `body` with protobuf-c's allocator, which refuses once `budget` bytes are taken.
    func decoding<Result>(budget: Int, _ body: (UnsafeMutablePointer<ProtobufCAllocator>) -> Result) -> Result {
        self.budget = budget
        return unsafe body(allocator)
    }

    /// Takes uninitialised memory that lives until the scope ends.
    func take(_ size: Int) -> UnsafeMutableRawPointer {
        let rounded = (max(size, 1) &+ Self.alignment &- 1) & ~(Self.alignment &- 1)
        if rounded <= Self.blockSize - used {
            defer { used += rounded }
            return unsafe block + used
        }
        let memory = UnsafeMutableRawPointer.allocate(byteCount: rounded, alignment: Self.alignment)
        unsafe large.append(memory)
        return unsafe memory
    }

    private func spend(_ size: Int) -> UnsafeMutableRawPointer? {
        guard size >= 0, size <= budget else { return nil }
        budget -= size
        return unsafe take(size)
    }

    private func release(downTo count: Int) {
        while unsafe large.count > count, let memory = unsafe large.popLast() { unsafe memory.deallocate() }
    }
}

// What encoding needs.
extension MessageArena {
    /// A message set up by its generated `…__init` function.
    func make<Message>(_ initialize: (UnsafeMutablePointer<Message>) -> Void) -> UnsafeMutablePointer<Message> {
        let place = unsafe take(MemoryLayout<Message>.stride).bindMemory(to: Message.self, capacity: 1)
        unsafe initialize(place)
        return unsafe place
    }

    /// Room for the pointers of a repeated field.
    func list<Element>(of type: Element.Type, count: Int) -> UnsafeMutablePointer<Element> {
        unsafe take(MemoryLayout<Element>.stride * count).bindMemory(to: Element.self, capacity: count)
    }

    /// The bytes of `text`, copied.
    func bytes(_ text: String) -> ProtobufCBinaryData {
        var text = text
        return text.withUTF8 { utf8 in
            let place = unsafe take(utf8.count)
            if let start = utf8.baseAddress { unsafe place.copyMemory(from: start, byteCount: utf8.count) }
            return unsafe ProtobufCBinaryData(len: utf8.count, data: place.assumingMemoryBound(to: UInt8.self))
        }
    }
}
