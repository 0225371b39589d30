// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Writes one protobuf message from its end to its start: the length of what a field holds is known when its head is
/// written, so that nothing is measured first. Fields are therefore written in falling order. Keeps its memory.
///
/// Confined to one loop.
@safe struct WireBuilder: ~Copyable {
    private static let firstCapacity = 4096

    private var base = UnsafeMutableRawPointer.allocate(byteCount: firstCapacity, alignment: 16)
    private var capacity = firstCapacity
    /// Bytes at the end of the memory that are written.
    private var written = 0
    /// Bytes that count, but are written elsewhere.
    private var skipped = 0

    deinit { unsafe base.deallocate() }

    /// Of the message so far.
    var count: Int { written &+ skipped }

    /// What is written. Lent until the next change.
    var bytes: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(start: base + (capacity &- written), count: written)
    }

    mutating func clear() {
        written = 0
        skipped = 0
    }

    /// Counts bytes that the caller puts behind what is written from here on.
    mutating func skip(_ count: Int) { skipped &+= count }

    /// Fields that are encoded already.
    mutating func append(_ encoded: UnsafeRawBufferPointer) {
        guard let source = encoded.baseAddress, unsafe !encoded.isEmpty else { return }
        unsafe room(encoded.count).copyMemory(from: source, byteCount: encoded.count)
    }

    mutating func append(_ encoded: [UInt8]) { unsafe encoded.withUnsafeBytes { unsafe append($0) } }

    /// A field of bytes. Proto3 leaves out what is empty.
    mutating func text(_ field: UInt8, _ text: String) {
        guard !text.isEmpty else { return }
        var text = text
        let count = text.withUTF8 { utf8 in
            unsafe append(UnsafeRawBufferPointer(utf8))
            return utf8.count
        }
        head(field, count)
    }

    mutating func number(_ field: UInt8, _ value: UInt64) {
        guard value != 0 else { return }
        varint(value)
        varint(UInt64(field) << 3)
    }

    /// A field that holds what `content` writes.
    mutating func message(_ field: UInt8, _ content: (inout WireBuilder) -> Void) {
        let before = count
        content(&self)
        head(field, count &- before)
    }

    /// The head of a field that holds the `length` bytes last counted.
    mutating func head(_ field: UInt8, _ length: Int) {
        varint(UInt64(length))
        varint(UInt64(field) << 3 | 2)
    }

    @inline(__always)
    private mutating func varint(_ value: UInt64) {
        guard value > 0x7F else {
            return unsafe room(1).storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
        }
        longVarint(value)
    }

    private mutating func longVarint(_ value: UInt64) {
        // Lengths of chunks: seven bits a byte, the lower ones first.
        guard value > 0x3FFF else {
            let both = UInt16(truncatingIfNeeded: (value & 0x7F) | 0x80 | ((value >> 7) << 8))
            return unsafe room(2).storeBytes(of: both.littleEndian, as: UInt16.self)
        }
        let size = (70 &- (value | 1).leadingZeroBitCount) / 7
        let place = unsafe room(size)
        var rest = value
        for index in 0..<size {
            let isLast = index == size &- 1
            unsafe place.storeBytes(
                of: UInt8(truncatingIfNeeded: rest & 0x7F) | (isLast ? 0 : 0x80),
                toByteOffset: index,
                as: UInt8.self
            )
            rest >>= 7
        }
    }

    /// The place of `count` more bytes in front.
    @inline(__always)
    private mutating func room(_ count: Int) -> UnsafeMutableRawPointer {
        if count > capacity &- written { grow(by: count) }
        written &+= count
        return unsafe base + (capacity &- written)
    }

    private mutating func grow(by count: Int) {
        let wanted = max(2 * capacity, written + count)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: wanted, alignment: 16)
        unsafe (larger + (wanted - written)).copyMemory(from: base + (capacity - written), byteCount: written)
        unsafe base.deallocate()
        unsafe base = larger
        capacity = wanted
    }
}

extension WireBuilder {
    /// The bytes of a message that never changes.
    static func encoded(_ content: (inout WireBuilder) -> Void) -> [UInt8] {
        var builder = WireBuilder()
        content(&builder)
        return unsafe [UInt8](builder.bytes)
    }
}
