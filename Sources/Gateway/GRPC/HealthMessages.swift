// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The messages of grpc.health.v1 (grpc/grpc, doc/health-checking.md): two fields, written and read by hand.
enum HealthMessages {
    /// HealthCheckResponse.ServingStatus.
    enum ServingStatus: UInt8 {
        case serving = 1
        case notServing = 2
        /// Only Watch tells it.
        case serviceUnknown = 3
    }

    /// Longest service name looked at; Kubernetes and Envoy send names of some 50 bytes.
    static let maxServiceNameBytes = 1024
    /// The field number in both messages, shifted over the wire type.
    private static let firstFieldBytes: UInt8 = 1 << 3 | 2
    private static let secondFieldBytes: UInt8 = 2 << 3 | 2
    private static let firstFieldVarint: UInt8 = 1 << 3

    /// Reads HealthCheckRequest: the name of the service asked about, empty for the whole server.
    static func service(in request: UnsafeRawBufferPointer) throws(GRPCStatus) -> String {
        var service = ""
        var reader = unsafe WireReader(rest: request[...])
        while let tag = try reader.tag() {
            guard tag == UInt64(firstFieldBytes) else {
                try reader.skip(wireType: tag & 7)
                continue
            }
            let name = try unsafe reader.bytes()
            guard unsafe name.count <= maxServiceNameBytes else {
                throw GRPCStatus(.invalidArgument, "service name too long")
            }
            unsafe service = String(decoding: name, as: UTF8.self)
        }
        return service
    }

    /// HealthCheckResponse.
    static func response(_ status: ServingStatus) -> [UInt8] { [firstFieldVarint, status.rawValue] }

    /// HealthListResponse: a map from service to HealthCheckResponse.
    static func list(_ statuses: [(service: String, status: ServingStatus)]) -> [UInt8] {
        var message: [UInt8] = []
        for (service, status) in statuses {
            let value = response(status)
            let entry = lengthPrefixed(firstFieldBytes, Array(service.utf8)) + lengthPrefixed(secondFieldBytes, value)
            message += lengthPrefixed(firstFieldBytes, entry)
        }
        return message
    }

    private static func lengthPrefixed(_ tag: UInt8, _ bytes: [UInt8]) -> [UInt8] {
        var prefix = [tag]
        var length = bytes.count
        while length > 0x7F {
            prefix.append(UInt8(truncatingIfNeeded: length) | 0x80)
            length >>= 7
        }
        prefix.append(UInt8(truncatingIfNeeded: length))
        return prefix + bytes
    }
}

/// Reads protobuf's wire format, as much of it as a flat message needs.
@safe private struct WireReader: ~Copyable {
    private var rest: Slice<UnsafeRawBufferPointer>

    init(rest: Slice<UnsafeRawBufferPointer>) { unsafe self.rest = rest }

    private static var malformed: GRPCStatus { GRPCStatus(.internal, "malformed protobuf") }

    /// The next field's number and wire type, nil at the end.
    mutating func tag() throws(GRPCStatus) -> UInt64? {
        guard unsafe !rest.isEmpty else { return nil }
        let tag = try varint()
        // Field number 0 is none (protobuf encoding).
        guard tag >> 3 != 0 else { throw Self.malformed }
        return tag
    }

    mutating func varint() throws(GRPCStatus) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard let byte = unsafe rest.popFirst() else { throw Self.malformed }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw Self.malformed
    }

    mutating func bytes() throws(GRPCStatus) -> Slice<UnsafeRawBufferPointer> {
        let count = try varint()
        guard unsafe count <= UInt64(rest.count) else { throw Self.malformed }
        let found = unsafe rest.prefix(Int(count))
        unsafe rest = rest.dropFirst(Int(count))
        return unsafe found
    }

    mutating func skip(wireType: UInt64) throws(GRPCStatus) {
        switch wireType {
        case 0: _ = try varint()
        case 1: try skip(bytes: 8)
        case 2: _ = try unsafe bytes()
        case 5: try skip(bytes: 4)
        default: throw Self.malformed
        }
    }

    private mutating func skip(bytes count: Int) throws(GRPCStatus) {
        guard unsafe rest.count >= count else { throw Self.malformed }
        unsafe rest = rest.dropFirst(count)
    }
}
