// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The protobuf wire format, written for tests alone, so that what the gateway encodes is not read by the code that
/// wrote it. https://protobuf.dev/programming-guides/encoding
struct WireWriter {
    var bytes: [UInt8] = []

    mutating func varint(_ value: UInt64) {
        var value = value
        while value > 0x7F {
            bytes.append(UInt8(truncatingIfNeeded: value) | 0x80)
            value >>= 7
        }
        bytes.append(UInt8(value))
    }

    mutating func number(_ field: UInt64, _ value: UInt64) {
        varint(field << 3)
        varint(value)
    }

    mutating func data(_ field: UInt64, _ value: some Sequence<UInt8>) {
        let value = Array(value)
        varint(field << 3 | 2)
        varint(UInt64(value.count))
        bytes += value
    }

    mutating func text(_ field: UInt64, _ value: String) { data(field, value.utf8) }

    mutating func message(_ field: UInt64, _ body: (inout WireWriter) -> Void) {
        var inner = WireWriter()
        body(&inner)
        data(field, inner.bytes)
    }
}

/// One message as a list of fields, in their order.
struct WireMessage: Hashable {
    enum Value: Hashable {
        case number(UInt64)
        case data([UInt8])
    }

    struct Malformed: Error {}

    var fields: [(field: UInt64, value: Value)] = []

    static func == (a: WireMessage, b: WireMessage) -> Bool {
        a.fields.elementsEqual(b.fields) { $0 == $1 }
    }

    func hash(into hasher: inout Hasher) {
        for (field, value) in fields {
            hasher.combine(field)
            hasher.combine(value)
        }
    }

    init(_ bytes: some Collection<UInt8>) throws {
        var rest = Array(bytes)[...]
        while !rest.isEmpty {
            let tag = try Self.varint(&rest)
            switch tag & 7 {
            case 0: fields.append((tag >> 3, .number(try Self.varint(&rest))))
            case 2:
                let count = Int(try Self.varint(&rest))
                guard count <= rest.count else { throw Malformed() }
                fields.append((tag >> 3, .data(Array(rest.prefix(count)))))
                rest = rest.dropFirst(count)
            default: throw Malformed()
            }
        }
    }

    private static func varint(_ rest: inout ArraySlice<UInt8>) throws -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while let byte = rest.popFirst() {
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        throw Malformed()
    }

    /// The only occurrence of a field, or nil; several are an error.
    func data(_ field: UInt64) throws -> [UInt8]? {
        let found = fields.filter { $0.field == field }
        guard found.count <= 1 else { throw Malformed() }
        guard case .data(let bytes)? = found.first?.value else { return nil }
        return bytes
    }

    func text(_ field: UInt64) throws -> String? { try data(field).map { String(decoding: $0, as: UTF8.self) } }

    func message(_ field: UInt64) throws -> WireMessage? { try data(field).map { try WireMessage($0) } }

    func messages(_ field: UInt64) throws -> [WireMessage] {
        try fields.filter { $0.field == field }.compactMap {
            guard case .data(let bytes) = $0.value else { return nil }
            return try WireMessage(bytes)
        }
    }

    func texts(_ field: UInt64) -> [String] {
        fields.filter { $0.field == field }.compactMap {
            guard case .data(let bytes) = $0.value else { return nil }
            return String(decoding: bytes, as: UTF8.self)
        }
    }

    func number(_ field: UInt64) -> UInt64? {
        guard case .number(let value)? = fields.last(where: { $0.field == field })?.value else { return nil }
        return value
    }

    var names: [UInt64] { fields.map(\.field) }
}
