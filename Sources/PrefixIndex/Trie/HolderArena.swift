// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Lists of holder words, for chunks with two holders or more. The capacity follows from the number of holders and is not
/// stored; freed lists wait for the next list of their size.
struct HolderArena: ~Copyable {
    private let region: SharedRegion
    /// False: only freed lists may be used.
    var mayGrow = true
    /// Words handed out so far. The first two are nobody's, so that 0 ends a free list.
    private var used = 2
    private var freeWords = 0
    /// First free list of each size class; its first word names the next one.
    private var free = [Int](repeating: 0, count: classCount)

    /// Sizes up to 2^17, more than there are lanes.
    private static let classCount = 36

    init(region: SharedRegion) { self.region = region }

    var bytes: Int { used &* 8 }
    /// Bytes of freed lists.
    var freeBytes: Int { freeWords &* 8 }

    @inline(__always)
    static func list(_ index: UInt64, in region: SharedRegion) -> SharedPointer {
        region.start + Int(truncatingIfNeeded: index) &* 8
    }

    /// Sizes 2, 4, 6, 8, 12, 16, 24, 32 …: each differs from the one before by a size.
    @inline(__always)
    static func capacity(for count: Int) -> Int {
        guard count > 2 else { return 2 }
        let power = 1 &<< (Int.bitWidth &- 1 &- (count &- 1).leadingZeroBitCount)
        let half = power &+ power / 2
        return count <= half && half > 3 ? half : 2 &* power
    }

    private static func sizeClass(_ capacity: Int) -> Int {
        let bits = Int.bitWidth - 1 - capacity.leadingZeroBitCount
        return 2 * bits + (capacity & (capacity - 1) == 0 ? 0 : 1)
    }

    /// The index of a list for `count` words; nil where there is no room.
    mutating func allocate(for count: Int) -> UInt64? {
        let capacity = Self.capacity(for: count)
        if let index = pop(Self.sizeClass(capacity)) {
            freeWords &-= capacity
            return UInt64(index)
        }
        if mayGrow, used &+ capacity <= region.capacity / 8 {
            defer { used &+= capacity }
            return UInt64(used)
        }
        return cut(capacity)
    }

    mutating func release(_ index: UInt64, count: Int) {
        let capacity = Self.capacity(for: count)
        freeWords &+= capacity
        push(Int(index), Self.sizeClass(capacity))
    }

    /// Gives the end of a list back whose number of words falls to `count`. The list stays where it is.
    mutating func shorten(_ index: UInt64, from old: Int, to count: Int) {
        let capacity = Self.capacity(for: count)
        let rest = Self.capacity(for: old) &- capacity
        guard rest > 0 else { return }
        freeWords &+= rest
        push(Int(index) &+ capacity, Self.sizeClass(rest))
    }

    /// Cuts a larger freed list in two.
    private mutating func cut(_ capacity: Int) -> UInt64? {
        var larger = Self.capacity(for: capacity &+ 1)
        while Self.sizeClass(larger) < Self.classCount {
            if let index = pop(Self.sizeClass(larger)) {
                // The part behind is cut on, until what is left is of the wanted size.
                var size = larger
                while size > capacity {
                    let next = Self.smaller(size)
                    push(index &+ next, Self.sizeClass(size &- next))
                    size = next
                }
                freeWords &-= capacity
                return UInt64(index)
            }
            larger = Self.capacity(for: larger &+ 1)
        }
        return nil
    }

    private static func smaller(_ capacity: Int) -> Int {
        let power = 1 << (Int.bitWidth - 1 - capacity.leadingZeroBitCount)
        if capacity != power { return power }
        return capacity == 4 ? 2 : power / 2 + power / 4
    }

    private mutating func pop(_ sizeClass: Int) -> Int? {
        let head = free[sizeClass]
        guard head != 0 else { return nil }
        free[sizeClass] = Int(Self.list(UInt64(head), in: region).word64(0))
        return head
    }

    private mutating func push(_ index: Int, _ sizeClass: Int) {
        Self.list(UInt64(index), in: region).set64(0, UInt64(free[sizeClass]))
        free[sizeClass] = index
    }
}
