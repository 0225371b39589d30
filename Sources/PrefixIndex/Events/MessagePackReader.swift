// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

/// Why bytes are not the MessagePack that was expected.
package enum MessagePackError: Error, Hashable {
    case truncated
    /// The first byte of a value of another type.
    case unexpected(byte: UInt8)
    /// An integer beyond the range of what it stands for.
    case outOfRange
}

/// Reads MessagePack values (github.com/msgpack/msgpack/blob/master/spec.md) one after the other from borrowed bytes.
///
/// Every legal header size is accepted: msgspec writes 16-bit map headers even for small maps. Nothing is read beyond the
/// end, no count is believed that the bytes left cannot hold, and nothing recurses.
@safe struct MessagePackReader {
    // Safe: `at` moves only after `left` was checked.
    private(set) var at: UnsafeRawPointer
    private let end: UnsafeRawPointer

    /// For use while the bytes are borrowed. nil for no bytes.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard let start = bytes.baseAddress else { return nil }
        unsafe at = unsafe start
        unsafe end = unsafe start + bytes.count
    }

    @inline(__always) var left: Int { unsafe end - at }

    @inline(__always)
    func peek() throws(MessagePackError) -> UInt8 {
        guard left > 0 else { throw .truncated }
        return unsafe at.load(as: UInt8.self)
    }

    /// True, and passed, where the next value is nil.
    @inline(__always)
    mutating func takeNil() throws(MessagePackError) -> Bool {
        guard try peek() == 0xC0 else { return false }
        unsafe at += 1
        return true
    }

    mutating func arrayCount() throws(MessagePackError) -> Int {
        let byte = try takeByte()
        let count: Int
        switch byte {
        case 0x90...0x9F: count = Int(byte & 15)
        case 0xDC: count = Int(try take(UInt16.self))
        case 0xDD: count = Int(try take(UInt32.self))
        default: throw .unexpected(byte: byte)
        }
        guard count <= left else { throw .truncated }
        return count
    }

    mutating func mapCount() throws(MessagePackError) -> Int {
        let byte = try takeByte()
        let count: Int
        switch byte {
        case 0x80...0x8F: count = Int(byte & 15)
        case 0xDE: count = Int(try take(UInt16.self))
        case 0xDF: count = Int(try take(UInt32.self))
        default: throw .unexpected(byte: byte)
        }
        guard count * 2 <= left else { throw .truncated }
        return count
    }

    /// True where the next value is a map, false where it is an array.
    func isMapNext() throws(MessagePackError) -> Bool {
        switch try peek() {
        case 0x80...0x8F, 0xDE, 0xDF: true
        case 0x90...0x9F, 0xDC, 0xDD: false
        case let byte: throw .unexpected(byte: byte)
        }
    }

    /// Any integer as 64 bits: negative ones in two's complement.
    @inline(__always)
    mutating func integerBits() throws(MessagePackError) -> UInt64 {
        let byte = try takeByte()
        switch byte {
        case 0x00...0x7F: return UInt64(byte)
        case 0xCC: return UInt64(try take(UInt8.self))
        case 0xCD: return UInt64(try take(UInt16.self))
        case 0xCE: return UInt64(try take(UInt32.self))
        case 0xCF: return try take(UInt64.self)
        case 0xD0: return UInt64(bitPattern: Int64(Int8(bitPattern: try take(UInt8.self))))
        case 0xD1: return UInt64(bitPattern: Int64(Int16(bitPattern: try take(UInt16.self))))
        case 0xD2: return UInt64(bitPattern: Int64(Int32(bitPattern: try take(UInt32.self))))
        case 0xD3: return try take(UInt64.self)
        case 0xE0...0xFF: return UInt64(bitPattern: Int64(Int8(bitPattern: byte)))
        default: throw .unexpected(byte: byte)
        }
    }

    /// An integer from 0 to `most`.
    mutating func count(upTo most: Int) throws(MessagePackError) -> Int {
        let bits = try integerBits()
        guard bits <= UInt64(most) else { throw .outOfRange }
        return Int(bits)
    }

    mutating func double() throws(MessagePackError) -> Double {
        switch try peek() {
        case 0xCB:
            unsafe at += 1
            return Double(bitPattern: try take(UInt64.self))
        case 0xCA:
            unsafe at += 1
            return Double(Float(bitPattern: try take(UInt32.self)))
        default:
            return Double(Int64(bitPattern: try integerBits()))
        }
    }

    /// The bytes of a string or of binary data.
    mutating func raw() throws(MessagePackError) -> UnsafeRawBufferPointer {
        let byte = try takeByte()
        let count: Int
        switch byte {
        case 0xA0...0xBF: count = Int(byte & 31)
        case 0xC4, 0xD9: count = Int(try take(UInt8.self))
        case 0xC5, 0xDA: count = Int(try take(UInt16.self))
        case 0xC6, 0xDB: count = Int(try take(UInt32.self))
        default: throw .unexpected(byte: byte)
        }
        guard count <= left else { throw .truncated }
        defer { unsafe at += count }
        return unsafe UnsafeRawBufferPointer(start: at, count: count)
    }

    func isRawNext() throws(MessagePackError) -> Bool {
        switch try peek() {
        case 0xA0...0xBF, 0xC4...0xC6, 0xD9...0xDB: true
        default: false
        }
    }

    /// Passes one value, with all that is in it.
    mutating func skip() throws(MessagePackError) {
        var values = 1
        while values > 0 {
            values -= 1
            let byte = try takeByte()
            switch byte {
            case 0x00...0x7F, 0xE0...0xFF, 0xC0, 0xC2, 0xC3: break
            case 0x80...0x8F: values += 2 * Int(byte & 15)
            case 0x90...0x9F: values += Int(byte & 15)
            case 0xA0...0xBF: try pass(Int(byte & 31))
            case 0xC4, 0xD9: try pass(Int(try take(UInt8.self)))
            case 0xC5, 0xDA: try pass(Int(try take(UInt16.self)))
            case 0xC6, 0xDB: try pass(Int(try take(UInt32.self)))
            case 0xC7: try pass(Int(try take(UInt8.self)) + 1)
            case 0xC8: try pass(Int(try take(UInt16.self)) + 1)
            case 0xC9: try pass(Int(try take(UInt32.self)) + 1)
            case 0xCA, 0xCE, 0xD2: try pass(4)
            case 0xCB, 0xCF, 0xD3: try pass(8)
            case 0xCC, 0xD0: try pass(1)
            case 0xCD, 0xD1: try pass(2)
            case 0xD4: try pass(2)
            case 0xD5: try pass(3)
            case 0xD6: try pass(5)
            case 0xD7: try pass(9)
            case 0xD8: try pass(17)
            case 0xDC: values += Int(try take(UInt16.self))
            case 0xDD: values += Int(try take(UInt32.self))
            case 0xDE: values += 2 * Int(try take(UInt16.self))
            case 0xDF: values += 2 * Int(try take(UInt32.self))
            default: throw .unexpected(byte: byte)
            }
            guard values <= left else { throw .truncated }
        }
    }

    private static let firstBurst = 32

    /// `count` unsigned integers of 64 bits from the start of an array, as far as they are all such.
    @inline(__always)
    mutating func hashes(_ count: Int, to target: UnsafeMutablePointer<UInt64>) -> Int {
        var place: UnsafePointer<UInt8>? = unsafe at.assumingMemoryBound(to: UInt8.self)
        let done = unsafe ix_decode_hashes(
            &place,
            end.assumingMemoryBound(to: UInt8.self),
            target,
            UInt32(truncatingIfNeeded: count)
        )
        if let place = unsafe place { unsafe at = unsafe UnsafeRawPointer(place) }
        return Int(done)
    }

    /// `count` integers of 32 bits, written to `target`. The hot loop of ingestion: token ids mostly have five bytes.
    @inline(__always)
    mutating func tokens(_ count: Int, to target: UnsafeMutablePointer<UInt32>) throws(MessagePackError) {
        var done = 0
        // After one of another kind, tokens are decoded by few at first: many at a time would be in vain where more follow.
        var burst = count
        while done < count {
            var place: UnsafePointer<UInt8>? = unsafe at.assumingMemoryBound(to: UInt8.self)
            let wanted = min(burst, count &- done)
            let step = unsafe ix_decode_tokens(
                &place,
                end.assumingMemoryBound(to: UInt8.self),
                target + done,
                UInt32(truncatingIfNeeded: wanted)
            )
            if let place = unsafe place { unsafe at = unsafe UnsafeRawPointer(place) }
            done &+= Int(step)
            guard done < count else { break }
            if step == wanted {
                burst = min(4 &* burst, count)
                continue
            }
            burst = Self.firstBurst
            // One of another kind, or among the last bytes.
            let bits = try integerBits()
            guard bits <= UInt64(UInt32.max) else { throw .outOfRange }
            unsafe target[done] = UInt32(bits)
            done &+= 1
        }
    }

    @inline(__always)
    private mutating func takeByte() throws(MessagePackError) -> UInt8 {
        let byte = try peek()
        unsafe at += 1
        return byte
    }

    @inline(__always)
    private mutating func take<Value: FixedWidthInteger>(_: Value.Type) throws(MessagePackError) -> Value {
        let size = MemoryLayout<Value>.size
        guard left >= size else { throw .truncated }
        defer { unsafe at += size }
        return unsafe Value(bigEndian: at.loadUnaligned(as: Value.self))
    }

    private mutating func pass(_ bytes: Int) throws(MessagePackError) {
        guard bytes <= left else { throw .truncated }
        unsafe at += bytes
    }
}
