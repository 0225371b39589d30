// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels
internal import Synchronization

/// A piece of reserved address space. Trivial to copy: its `MemoryOwner` keeps it alive.
struct SharedRegion: Sendable {
    let start: SharedPointer
    let capacity: Int
}

/// Reserved address space that readers may look into at any time: it is not unmapped before the last of them is gone.
///
/// Its contents are read and written as relaxed atomic words, so no thread sees a torn one.
final class MemoryOwner: Sendable {
    private let regions = Mutex<[SharedRegion]>([])

    /// Zero-filled space of at least `capacity` bytes, until the owner goes.
    func reserve(_ capacity: Int) throws(IndexMemoryError) -> SharedRegion {
        let bytes = (max(capacity, 1) + 4_095) & ~4_095
        guard let start = unsafe ix_reserve(bytes) else { throw .cannotReserve(bytes: bytes) }
        let region = unsafe SharedRegion(start: SharedPointer(raw: start), capacity: bytes)
        regions.withLock { $0.append(region) }
        return region
    }

    deinit {
        regions.withLock { regions in
            for region in regions { unsafe ix_release(region.start.raw, region.capacity) }
        }
    }
}

/// Why an index cannot be made.
package enum IndexMemoryError: Error, Hashable {
    /// The system refused address space.
    case cannotReserve(bytes: Int)
}

/// A place in a shared region.
@safe struct SharedPointer: @unchecked Sendable {
    // Safe: made from regions alone, whose owners keep offsets within them. Sendable: what lies behind it is accessed by
    // atomic words, or by the one writer alone.
    let raw: UnsafeMutableRawPointer

    @inline(__always) init(raw: UnsafeMutableRawPointer) { unsafe self.raw = unsafe raw }

    @inline(__always)
    static func + (place: SharedPointer, bytes: Int) -> SharedPointer { unsafe SharedPointer(raw: place.raw + bytes) }

    @inline(__always)
    func word8(_ offset: Int) -> UInt8 {
        unsafe (raw + offset).assumingMemoryBound(to: Atomic<UInt8>.self).pointee.load(ordering: .relaxed)
    }

    @inline(__always)
    func word16(_ offset: Int) -> UInt16 {
        unsafe (raw + offset).assumingMemoryBound(to: Atomic<UInt16>.self).pointee.load(ordering: .relaxed)
    }

    @inline(__always)
    func word32(_ offset: Int) -> UInt32 {
        unsafe (raw + offset).assumingMemoryBound(to: Atomic<UInt32>.self).pointee.load(ordering: .relaxed)
    }

    @inline(__always)
    func word64(_ offset: Int) -> UInt64 {
        unsafe (raw + offset).assumingMemoryBound(to: Atomic<UInt64>.self).pointee.load(ordering: .relaxed)
    }

    @inline(__always)
    func set8(_ offset: Int, _ value: UInt8) {
        unsafe (raw + offset).assumingMemoryBound(to: Atomic<UInt8>.self).pointee.store(value, ordering: .relaxed)
    }

    @inline(__always)
    func set16(_ offset: Int, _ value: UInt16) {
        unsafe (raw + offset).assumingMemoryBound(to: Atomic<UInt16>.self).pointee.store(value, ordering: .relaxed)
    }

    @inline(__always)
    func set32(_ offset: Int, _ value: UInt32) {
        unsafe (raw + offset).assumingMemoryBound(to: Atomic<UInt32>.self).pointee.store(value, ordering: .relaxed)
    }

    /// A load behind which nothing moves up.
    @inline(__always)
    func acquire32(_ offset: Int) -> UInt32 {
        unsafe (raw + offset).assumingMemoryBound(to: Atomic<UInt32>.self).pointee.load(ordering: .acquiring)
    }

    /// A store that nothing before it moves behind.
    @inline(__always)
    func release32(_ offset: Int, _ value: UInt32) {
        unsafe (raw + offset).assumingMemoryBound(to: Atomic<UInt32>.self).pointee.store(value, ordering: .releasing)
    }

    @inline(__always)
    func set64(_ offset: Int, _ value: UInt64) {
        unsafe (raw + offset).assumingMemoryBound(to: Atomic<UInt64>.self).pointee.store(value, ordering: .relaxed)
    }
}

/// A sequence lock's counter in shared memory. Odd while the writer changes what it guards (Boehm, "Can seqlocks get along
/// with programming language memory models?", 2012).
enum SequenceLock {
    /// Gives the counter to compare afterwards, or nil while the writer is inside.
    @inline(__always)
    static func begin(_ counter: SharedPointer) -> UInt32? {
        let before = counter.acquire32(0)
        return before & 1 == 0 ? before : nil
    }

    /// True when nothing changed since `begin` gave `before`.
    @inline(__always)
    static func holds(_ counter: SharedPointer, since before: UInt32) -> Bool {
        atomicMemoryFence(ordering: .acquiring)
        return counter.word32(0) == before
    }

    @inline(__always)
    static func enter(_ counter: SharedPointer) {
        counter.set32(0, counter.word32(0) &+ 1)
        atomicMemoryFence(ordering: .releasing)
    }

    @inline(__always)
    static func leave(_ counter: SharedPointer) {
        let next = counter.word32(0) &+ 1
        counter.release32(0, next)
    }
}
