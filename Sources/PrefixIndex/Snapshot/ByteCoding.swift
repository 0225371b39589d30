// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CLZ4

/// Appends little-endian integers, LEB128 varints and sections.
struct ByteWriter {
    var bytes: [UInt8] = []

    mutating func fixed<Value: FixedWidthInteger>(_ value: Value) {
        unsafe withUnsafeBytes(of: value.littleEndian) { unsafe bytes += $0 }
    }

    mutating func varint(_ value: some BinaryInteger) {
        var left = UInt64(truncatingIfNeeded: value)
        while left >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: left) | 0x80)
            left >>= 7
        }
        bytes.append(UInt8(left))
    }

    mutating func text(_ text: String) {
        varint(text.utf8.count)
        bytes += Array(text.utf8)
    }

    /// A section with its length; by lz4 where that makes it shorter.
    mutating func section(_ content: [UInt8], compress: Bool) {
        let packed = compress ? LZ4.compressed(content) : nil
        varint(content.count)
        if let packed, packed.count < content.count {
            varint(packed.count)
            bytes += packed
        } else {
            varint(content.count)
            bytes += content
        }
    }
}

/// Reads what `ByteWriter` wrote, never beyond the end.
struct ByteReader {
    private let bytes: ArraySlice<UInt8>
    private(set) var at: Int

    init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        at = bytes.startIndex
    }

    var left: Int { bytes.endIndex - at }

    mutating func fixed<Value: FixedWidthInteger>(_: Value.Type) throws(SnapshotError) -> Value {
        let size = MemoryLayout<Value>.size
        guard left >= size else { throw .truncated }
        defer { at += size }
        let value = unsafe bytes.withUnsafeBytes {
            unsafe $0.loadUnaligned(fromByteOffset: at - bytes.startIndex, as: Value.self)
        }
        return Value(littleEndian: value)
    }

    /// Passes the next `count` bytes, and lends them to `body`.
    mutating func lend(_ count: Int, _ body: (UnsafeRawBufferPointer) -> Void) throws(SnapshotError) {
        guard count >= 0, left >= count else { throw .truncated }
        let from = at - bytes.startIndex
        unsafe bytes.withUnsafeBytes { unsafe body(UnsafeRawBufferPointer(rebasing: $0[from..<(from + count)])) }
        at += count
    }

    mutating func varint() throws(SnapshotError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while shift < 64 {
            guard left > 0 else { throw .truncated }
            let byte = bytes[at]
            at += 1
            value |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
        }
        throw .contradictory("an integer of more than 64 bits")
    }

    /// A varint from 0 to `most`.
    mutating func count(upTo most: Int) throws(SnapshotError) -> Int {
        let value = try varint()
        guard value <= UInt64(most) else { throw .contradictory("a number above \(most)") }
        return Int(value)
    }

    mutating func text() throws(SnapshotError) -> String {
        let count = try count(upTo: left)
        defer { at += count }
        return String(decoding: bytes[at..<(at + count)], as: UTF8.self)
    }

    mutating func section(upTo most: Int) throws(SnapshotError) -> ArraySlice<UInt8> {
        let size = try count(upTo: most)
        let stored = try count(upTo: left)
        defer { at += stored }
        let content = bytes[at..<(at + stored)]
        guard stored < size else {
            guard stored == size else { throw .contradictory("a section longer than it says") }
            return content
        }
        // lz4 makes at most 255 bytes of one.
        guard size <= stored * 256 + 64 else { throw .contradictory("a section that cannot have its length") }
        guard let plain = LZ4.decompressed(Array(content), size: size) else {
            throw .contradictory("a section of no lz4")
        }
        return plain[...]
    }
}

/// Blocks of lz4, without a frame: lengths stand beside them.
enum LZ4 {
    static func compressed(_ bytes: [UInt8]) -> [UInt8]? {
        guard !bytes.isEmpty, bytes.count <= Int(LZ4_MAX_INPUT_SIZE) else { return nil }
        let bound = Int(LZ4_compressBound(Int32(bytes.count)))
        var count: Int32 = 0
        let packed = unsafe [UInt8](unsafeUninitializedCapacity: bound) { target, used in
            count = unsafe bytes.withUnsafeBytes { source in
                unsafe LZ4_compress_default(source.baseAddress, target.baseAddress, Int32(bytes.count), Int32(bound))
            }
            used = max(Int(count), 0)
        }
        return count > 0 ? packed : nil
    }

    static func decompressed(_ bytes: [UInt8], size: Int) -> [UInt8]? {
        guard !bytes.isEmpty, size <= Int(LZ4_MAX_INPUT_SIZE), bytes.count <= Int(LZ4_MAX_INPUT_SIZE) else {
            return nil
        }
        var count: Int32 = -1
        let plain = unsafe [UInt8](unsafeUninitializedCapacity: size) { target, used in
            count = unsafe bytes.withUnsafeBytes { source in
                unsafe LZ4_decompress_safe(source.baseAddress, target.baseAddress, Int32(bytes.count), Int32(size))
            }
            used = max(Int(count), 0)
        }
        return Int(count) == size ? plain : nil
    }
}
