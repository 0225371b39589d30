// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

extension UnsafeRawBufferPointer {
    /// Where the first byte at or behind `start` lies that is `a` or `b`; the count where there is none.
    ///
    /// Most of an answer is text between two quotes, so this looks at eight bytes at a time: `(x - 0x01…) & ~x & 0x80…` is
    /// not zero where a byte of x is, and its lowest bit stands in the first such byte (Mycroft). Swift's own SIMD types
    /// were 20 times slower here.
    func firstIndex(of a: UInt8, or b: UInt8, from start: Int) -> Int {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highs: UInt64 = 0x8080_8080_8080_8080
        let (patternA, patternB) = (UInt64(a) &* ones, UInt64(b) &* ones)
        var index = start
        while count &- index >= 8 {
            let word = unsafe UInt64(littleEndian: loadUnaligned(fromByteOffset: index, as: UInt64.self))
            let (x, y) = (word ^ patternA, word ^ patternB)
            let found = ((x &- ones) & ~x | (y &- ones) & ~y) & highs
            if found != 0 { return index &+ found.trailingZeroBitCount / 8 }
            index &+= 8
        }
        while index < count {
            let byte = unsafe self[index]
            if byte == a || byte == b { return index }
            index &+= 1
        }
        return count
    }

    /// Whether `usag` stands somewhere in the range: what has it not, does not name the usage.
    ///
    /// Looks, eight bytes at a time as above, for a `u` with a `g` three bytes behind it, and then closer.
    func holdsUsage(_ range: Range<Int>) -> Bool {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highs: UInt64 = 0x8080_8080_8080_8080
        let (patternU, patternG) = (UInt64(UInt8(ascii: "u")) &* ones, UInt64(UInt8(ascii: "g")) &* ones)
        var index = range.lowerBound
        while range.upperBound &- index >= 11 {
            let first = unsafe UInt64(littleEndian: loadUnaligned(fromByteOffset: index, as: UInt64.self))
            let fourth = unsafe UInt64(littleEndian: loadUnaligned(fromByteOffset: index &+ 3, as: UInt64.self))
            let (x, y) = (first ^ patternU, fourth ^ patternG)
            var found = (x &- ones) & ~x & (y &- ones) & ~y & highs
            while found != 0 {
                if unsafe isUsage(at: index &+ found.trailingZeroBitCount / 8) { return true }
                found &= found &- 1
            }
            index &+= 8
        }
        while range.upperBound &- index >= 4 {
            if unsafe isUsage(at: index) { return true }
            index &+= 1
        }
        return false
    }

    private func isUsage(at index: Int) -> Bool {
        unsafe UInt32(littleEndian: loadUnaligned(fromByteOffset: index, as: UInt32.self)) == 0x6761_7375
    }
}
