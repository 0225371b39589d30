// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import Glibc

/// Answers every exchange with one endpoint, and every body with itself. Knows full duplex, and response bodies left out.
///
/// Reads and writes the few protobuf fields by hand, so that it is the cheapest thing that Envoy takes for a picker.
final class EchoService: GRPCService {
    /// The whole answer to request headers.
    let route: [UInt8]
    let plainHeaders = Wire.field(2, Wire.field(1, []))
    let trailers = Wire.field(6, [])
    /// The `end_of_stream` of a body.
    let end: [UInt8] = [2 << 3, 1]

    init(destination: String) {
        let name = Array("x-gateway-destination-endpoint".utf8)
        let header = Wire.field(1, Wire.field(1, name) + Wire.field(3, Array(destination.utf8)))
        // OVERWRITE_IF_EXISTS_OR_ADD; clear_route_cache.
        let option = header + [3 << 3, 2]
        let common = Wire.field(2, Wire.field(1, option)) + [5 << 3, 1]
        route = Wire.field(1, Wire.field(1, common))
    }

    func handler(path: String, call: any GRPCCall) -> (any GRPCCallHandler)? {
        path == "/envoy.service.ext_proc.v3.ExternalProcessor/Process" ? EchoCall(call, self) : nil
    }
}

private final class EchoCall: GRPCCallHandler {
    /// As epp-pd sends bodies on.
    private static let pieceBytes = 62_000

    private var call: (any GRPCCall)?
    private let service: EchoService
    private var body = EchoBody()

    init(_ call: any GRPCCall, _ service: EchoService) {
        self.call = call
        self.service = service
    }

    func received(_ message: UnsafeRawBufferPointer) {
        var reader = unsafe WireReader(message)
        while let (field, content) = unsafe reader.next() {
            switch field {
            case 2: if unsafe WireReader.flag(3, in: content) { send(service.route) }
            case 3: send(service.plainHeaders)
            case 4:
                let (bytes, isLast) = unsafe WireReader.body(content)
                unsafe body.append(bytes)
                guard isLast else { continue }
                send(service.route)
                unsafe sendBody(3, body.bytes, of: body, isLast: true)
                body = EchoBody()
            case 5:
                let (bytes, isLast) = unsafe WireReader.body(content)
                unsafe sendBody(4, bytes, isLast: isLast)
            case 7: send(service.trailers)
            default: break
            }
        }
    }

    func remoteEnded() { call?.finish(.ok) }

    func closed(_ end: GRPCCallEnd) { call = nil }

    private func send(_ message: [UInt8]) {
        unsafe call?.send(size: message.count) { unsafe $0.copyBytes(from: message) }
    }

    /// Pieces of a body, each in response{common{body_mutation{streamed_response{body, end_of_stream}}}}. What `owner` keeps
    /// is sent from where it lies.
    private func sendBody(
        _ field: UInt8,
        _ bytes: UnsafeRawBufferPointer,
        of owner: EchoBody? = nil,
        isLast: Bool
    ) {
        var rest = unsafe bytes[...]
        repeat {
            let piece = unsafe UnsafeRawBufferPointer(rebasing: rest.prefix(Self.pieceBytes))
            unsafe rest = rest.dropFirst(piece.count)
            let tail = unsafe isLast && rest.isEmpty ? service.end : []
            unsafe withUnsafeTemporaryAllocation(byteCount: Wire.mostHeads, alignment: 1) { room in
                let head = unsafe Wire.heads([1, 3, 3, 1, field], pieceCount: piece.count, tailCount: tail.count, room)
                unsafe tail.withUnsafeBytes { unsafe send(head, piece, of: owner, $0) }
            }
        } while unsafe !rest.isEmpty
    }

    private func send(
        _ head: UnsafeRawBufferPointer,
        _ piece: UnsafeRawBufferPointer,
        of owner: EchoBody?,
        _ tail: UnsafeRawBufferPointer
    ) {
        if let owner { return unsafe call?.send(head, piece, of: owner, tail) ?? () }
        unsafe call?.send(size: head.count + piece.count + tail.count) { room in
            unsafe room.copyBytes(from: head)
            unsafe UnsafeMutableRawBufferPointer(rebasing: room[head.count...]).copyBytes(from: piece)
            unsafe UnsafeMutableRawBufferPointer(rebasing: room[(room.count - tail.count)...]).copyBytes(from: tail)
        }
    }
}

/// A body, in memory that is sent from.
@safe private final class EchoBody {
    private static let firstCapacity = 64 << 10

    private var start: UnsafeMutableRawPointer?
    private var capacity = 0
    private var count = 0

    init() { unsafe start = nil }

    deinit { unsafe free(start) }

    var bytes: UnsafeRawBufferPointer { unsafe UnsafeRawBufferPointer(start: start, count: count) }

    func append(_ piece: UnsafeRawBufferPointer) {
        guard let source = piece.baseAddress, unsafe !piece.isEmpty else { return }
        if piece.count > capacity - count {
            capacity = max(4 * capacity, Self.firstCapacity, count + piece.count)
            unsafe start = realloc(start, capacity)
        }
        guard let start = unsafe start else { preconditionFailure("out of memory") }
        unsafe (start + count).copyMemory(from: source, byteCount: piece.count)
        count += piece.count
    }
}

/// Protobuf's wire format, as far as the echo writes it.
enum Wire {
    static func field(_ number: UInt8, _ content: [UInt8]) -> [UInt8] { head(number, content.count) + content }

    /// Room for the heads of fields in each other: a tag and a length of 32 bits each.
    static let mostHeads = 5 * 6

    /// The heads of fields in each other, the innermost named first, around a piece and the tail behind it in its message.
    static func heads(
        _ fields: [UInt8],
        pieceCount: Int,
        tailCount: Int,
        _ room: UnsafeMutableRawBufferPointer
    ) -> UnsafeRawBufferPointer {
        var start = room.count
        var size = pieceCount
        for (index, field) in fields.enumerated() {
            var digits = 1
            while size >> (7 * digits) > 0 { digits += 1 }
            start -= digits + 1
            unsafe room[start] = field << 3 | 2
            for digit in 0..<digits {
                let more: UInt8 = digit + 1 < digits ? 0x80 : 0
                unsafe room[start + 1 + digit] = UInt8(truncatingIfNeeded: size >> (7 * digit)) & 0x7F | more
            }
            size += digits + 1 + (index == 0 ? tailCount : 0)
        }
        return unsafe UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(room)[start...])
    }

    /// Tag and length of a field with bytes.
    static func head(_ number: UInt8, _ count: Int) -> [UInt8] {
        var bytes = [number << 3 | 2]
        var rest = count
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
        return bytes
    }
}

/// Walks through the fields of one message that hold bytes, and skips numbers. Stops at what it does not understand.
@safe struct WireReader {
    private let bytes: UnsafeRawBufferPointer
    private var index = 0
    private(set) var lastNumber: UInt64 = 0

    init(_ bytes: UnsafeRawBufferPointer) { unsafe self.bytes = bytes }

    /// The next field with bytes.
    mutating func next() -> (field: Int, content: UnsafeRawBufferPointer)? {
        while let (field, content) = unsafe step() {
            if let content = unsafe content { return unsafe (field, content) }
        }
        return nil
    }

    static func flag(_ number: Int, in content: UnsafeRawBufferPointer) -> Bool {
        var reader = unsafe WireReader(content)
        while let (field, bytes) = unsafe reader.step() {
            if unsafe field == number && bytes == nil { return reader.lastNumber != 0 }
        }
        return false
    }

    static func body(_ content: UnsafeRawBufferPointer) -> (bytes: UnsafeRawBufferPointer, isLast: Bool) {
        var reader = unsafe WireReader(content)
        var bytes = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
        var isLast = false
        while let (field, found) = unsafe reader.step() {
            if field == 1, let found = unsafe found { unsafe bytes = found }
            if unsafe field == 2 && found == nil { isLast = reader.lastNumber != 0 }
        }
        return unsafe (bytes, isLast)
    }

    private mutating func step() -> (field: Int, content: UnsafeRawBufferPointer?)? {
        guard unsafe index < bytes.count, let tag = varint() else { return nil }
        let field = Int(truncatingIfNeeded: tag >> 3)
        switch tag & 7 {
        case 0:
            guard let number = varint() else { return nil }
            lastNumber = number
            return (field, nil)
        case 2:
            guard let length = varint(), unsafe length <= UInt64(bytes.count - index) else { return nil }
            defer { index += Int(length) }
            return unsafe (field, UnsafeRawBufferPointer(rebasing: bytes[index..<(index + Int(length))]))
        default: return nil
        }
    }

    private mutating func varint() -> UInt64? {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 7) {
            guard unsafe index < bytes.count else { return nil }
            let byte = unsafe bytes[index]
            index += 1
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        return nil
    }
}
