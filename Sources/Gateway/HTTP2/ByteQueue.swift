// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Glibc

/// Bytes that wait: appended at the back, taken from the front. Owns its storage.
///
/// Storage is given back when the queue runs empty, but for a rest, so that what idles costs little.
@safe package struct ByteQueue: ~Copyable {
    /// Holds the answers to a short request.
    private static let smallestAllocation = 4096

    private var base: UnsafeMutableRawPointer?
    private var capacity = 0
    private var head = 0
    private var tail = 0
    private let keptWhenEmpty: Int

    /// - Parameter keptWhenEmpty: storage that the queue may keep when it is empty. The default is enough for the answers of a short
    ///   request with its body, and little enough for 10,000 open streams.
    package init(keptWhenEmpty: Int = 4096) {
        unsafe base = nil
        self.keptWhenEmpty = keptWhenEmpty
    }

    deinit { unsafe free(base) }

    package var count: Int { tail - head }
    package var isEmpty: Bool { tail == head }

    /// Lends the bytes that wait. Not to be kept beyond the next change.
    package var bytes: UnsafeRawBufferPointer {
        guard let base = unsafe base else { return unsafe UnsafeRawBufferPointer(start: nil, count: 0) }
        return unsafe UnsafeRawBufferPointer(start: base + head, count: tail - head)
    }

    package mutating func append(_ source: UnsafeRawBufferPointer) {
        guard let start = source.baseAddress, source.count > 0 else { return }
        unsafe room(for: source.count).copyMemory(from: start, byteCount: source.count)
        tail += source.count
    }

    /// Appends `size` bytes, and says where they are to be written before the next change.
    package mutating func extend(by size: Int) -> UnsafeMutableRawBufferPointer {
        guard size > 0 else { return unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        let place = unsafe room(for: size)
        tail += size
        return unsafe UnsafeMutableRawBufferPointer(start: place, count: size)
    }

    /// Appends up to `room` bytes that `write` fills in place, and returns how many it says it wrote.
    package mutating func append(
        upTo limit: Int,
        _ write: (UnsafeMutableRawBufferPointer) -> Int
    ) -> Int {
        guard limit > 0 else { return 0 }
        let written = unsafe write(UnsafeMutableRawBufferPointer(start: room(for: limit), count: limit))
        precondition(written <= limit, "more bytes reported than there was room for")
        tail += max(0, written)
        return written
    }

    /// How many bytes can be appended before storage has to grow.
    package var spare: Int { capacity - tail }

    /// Makes room for `size` more bytes at once.
    package mutating func reserve(_ size: Int) {
        guard size > 0 else { return }
        _ = unsafe room(for: size)
    }

    /// Drops `count` bytes from the front.
    package mutating func removeFirst(_ count: Int) {
        precondition(count >= 0 && count <= self.count, "more bytes removed than there are")
        head += count
        if head == tail { removeAll() }
    }

    package mutating func removeAll() {
        head = 0
        tail = 0
        guard capacity > keptWhenEmpty else { return }
        unsafe free(base)
        unsafe base = nil
        capacity = 0
    }

    /// The place where the next `size` bytes go. Grows by doubling, or moves what waits to the front.
    private mutating func room(for size: Int) -> UnsafeMutableRawPointer {
        if let base = unsafe base, capacity - tail >= size { return unsafe base + tail }
        let waiting = tail - head
        if let base = unsafe base, head >= waiting, capacity - waiting >= size {
            unsafe base.copyMemory(from: base + head, byteCount: waiting)
        } else {
            let wanted = max(Self.smallestAllocation, waiting + size, min(capacity * 2, capacity + (8 << 20)))
            grow(to: wanted, keeping: waiting)
        }
        head = 0
        tail = waiting
        guard let base = unsafe base else { preconditionFailure("no storage") }
        return unsafe base + waiting
    }

    private mutating func grow(to wanted: Int, keeping waiting: Int) {
        let larger = unsafe RawMemory.allocate(wanted)
        if let base = unsafe base { unsafe larger.copyMemory(from: base + head, byteCount: waiting) }
        unsafe free(base)
        unsafe base = larger
        capacity = wanted
    }
}
