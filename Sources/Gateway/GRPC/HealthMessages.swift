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
        var reader = unsafe WireReader(request)
        while let field = reader.next() {
            guard field.number == 1, field.kind == .bytes else { continue }
            guard unsafe field.bytes.count <= maxServiceNameBytes else {
                throw GRPCStatus(.invalidArgument, "service name too long")
            }
            service = unsafe String(decoding: field.bytes, as: UTF8.self)
        }
        if reader.isMalformed { throw GRPCStatus(.internal, "malformed protobuf") }
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
