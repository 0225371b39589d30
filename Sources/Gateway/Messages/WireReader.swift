// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One field of a protobuf message, its bytes lent from the message.
@safe struct WireField {
    enum Kind: Hashable {
        case number, bytes
        /// Eight or four bytes of fixed size: nothing that is read here has them.
        case fixed
    }

    let number: UInt64
    let kind: Kind
    /// The varint of a number; zero for others.
    let value: UInt64
    /// Empty for others.
    let bytes: UnsafeRawBufferPointer
}

/// Walks through the fields of one protobuf message in their order, without memory of its own
/// (https://protobuf.dev/programming-guides/encoding).
@safe struct WireReader {
    private let bytes: UnsafeRawBufferPointer
    private var index = 0
    /// True where the bytes are no message; `next` then gives nil before their end.
    private(set) var isMalformed = false

    init(_ bytes: UnsafeRawBufferPointer) { unsafe self.bytes = bytes }

    @inline(__always)
    mutating func next() -> WireField? {
        guard unsafe index < bytes.count else { return nil }
        guard let tag = varint(), tag >> 3 > 0 else { return malformed() }
        switch tag & 7 {
        case 0:
            guard let value = varint() else { return malformed() }
            return unsafe WireField(
                number: tag >> 3,
                kind: .number,
                value: value,
                bytes: UnsafeRawBufferPointer(start: nil, count: 0)
            )
        case 2:
            guard let length = varint() else { return malformed() }
            return take(length, tag >> 3, .bytes)
        case 1: return take(8, tag >> 3, .fixed)
        case 5: return take(4, tag >> 3, .fixed)
        // Groups are gone from proto3.
        default: return malformed()
        }
    }

    /// The last field of that number and kind, as parsers of proto3 take it.
    static func last(_ number: UInt64, _ kind: WireField.Kind, in bytes: UnsafeRawBufferPointer) -> WireField? {
        var reader = unsafe WireReader(bytes)
        var found: WireField?
        while let field = reader.next() {
            if field.number == number, field.kind == kind { found = field }
        }
        return found
    }

    @inline(__always)
    private mutating func take(_ length: UInt64, _ number: UInt64, _ kind: WireField.Kind) -> WireField? {
        guard unsafe length <= UInt64(bytes.count &- index) else { return malformed() }
        let end = index &+ Int(length)
        defer { index = end }
        return unsafe WireField(
            number: number,
            kind: kind,
            value: 0,
            bytes: UnsafeRawBufferPointer(rebasing: bytes[index..<end])
        )
    }

    private mutating func malformed() -> WireField? {
        isMalformed = true
        unsafe index = bytes.count
        return nil
    }

    /// Tags and most lengths have one byte.
    @inline(__always)
    private mutating func varint() -> UInt64? {
        guard unsafe index < bytes.count else { return nil }
        let byte = unsafe bytes[index]
        guard byte >= 0x80 else {
            index &+= 1
            return UInt64(byte)
        }
        return longVarint()
    }

    /// At most ten bytes; bits beyond the 64th are dropped, as other parsers do.
    private mutating func longVarint() -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while unsafe index < bytes.count, shift < 70 {
            let byte = unsafe bytes[index]
            index &+= 1
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
            shift &+= 7
        }
        return nil
    }
}

/// The messages from Envoy that are read, by what their fields hold: just deep enough for what is used of them. It cannot
/// nest in itself, so that no message exhausts the stack.
enum WireShape {
    case request, headers, headerMap, header, body, trailers, configuration
    case metadata, namespace, structure, structureField, value, list, listItem

    private enum Content {
        case number, bytes, unknown
        case message(WireShape)
    }

    /// Field numbers as in Sources/CExtProc/proto/ext_proc.proto. What is not named there may hold anything.
    private func content(of field: UInt64) -> Content {
        switch (self, field) {
        case (.request, 2), (.request, 3): .message(.headers)
        case (.request, 4), (.request, 5): .message(.body)
        case (.request, 6), (.request, 7): .message(.trailers)
        case (.request, 8): .message(.metadata)
        case (.request, 10): .number
        case (.request, 11): .message(.configuration)
        case (.headers, 1): .message(.headerMap)
        case (.headers, 3): .number
        case (.headerMap, 1): .message(.header)
        case (.header, 1), (.header, 2), (.header, 3): .bytes
        case (.body, 1): .bytes
        case (.body, 2): .number
        case (.configuration, 1), (.configuration, 2): .number
        case (.metadata, 1): .message(.namespace)
        case (.namespace, 1): .bytes
        case (.namespace, 2): .message(.structure)
        case (.structure, 1): .message(.structureField)
        case (.structureField, 1): .bytes
        case (.structureField, 2): .message(.value)
        case (.value, 3): .bytes
        case (.value, 6): .message(.list)
        case (.list, 1): .message(.listItem)
        case (.listItem, 3): .bytes
        default: .unknown
        }
    }

    /// Whether `bytes` are such a message. Looks at no byte of a body.
    func fits(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var reader = unsafe WireReader(bytes)
        while let field = reader.next() {
            switch content(of: field.number) {
            case .unknown: continue
            case .number: if field.kind != .number { return false }
            case .bytes: if field.kind != .bytes { return false }
            case .message(let shape):
                guard field.kind == .bytes, unsafe shape.fits(field.bytes) else { return false }
            }
        }
        return !reader.isMalformed
    }
}
