// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

extension UnsafeRawBufferPointer {
    /// Where the first byte at or behind `start` lies that is `a` or `b`; the count where there is none.
    ///
    /// Most of an answer is text between two quotes, so this looks at 32 bytes at a time.
    func firstIndex(of a: UInt8, or b: UInt8, from start: Int) -> Int {
        var index = start
        while count - index >= 32 {
            let bytes = unsafe loadUnaligned(fromByteOffset: index, as: SIMD32<UInt8>.self)
            guard !any((bytes .== SIMD32(repeating: a)) .| (bytes .== SIMD32(repeating: b))) else { break }
            index += 32
        }
        while index < count {
            let byte = unsafe self[index]
            if byte == a || byte == b { return index }
            index += 1
        }
        return count
    }
}
