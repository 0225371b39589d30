// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What a call's request headers say, as far as it matters here.
struct RequestFields {
    enum Encoding { case identity, gzip, unknown }

    private(set) var isPOST = false
    private(set) var isGET = false
    private(set) var isGRPC = false
    private(set) var encoding = Encoding.identity
    private(set) var path = ""
    private(set) var authority = ""

    /// Longest path looked at: gRPC paths are a service's and a method's name, those of pages have a label selector.
    private static let maxPathBytes = 4096
    /// Longest authority looked at: names of DNS have 253 bytes, those of Istio's clusters a prefix.
    private static let maxAuthorityBytes = 512

    mutating func take(name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>, _ session: HTTP2Session) {
        // Lengths tell the five wanted fields apart from most others.
        switch name.count {
        case 5 where unsafe name.isEqual(to: ":path"):
            if value.count <= Self.maxPathBytes { unsafe path = session.sharedPath(value) }
        case 7 where unsafe name.isEqual(to: ":method"):
            unsafe isPOST = value.isEqual(to: "POST")
            unsafe isGET = value.isEqual(to: "GET")
        case 10 where unsafe name.isEqual(to: ":authority"):
            if value.count <= Self.maxAuthorityBytes { unsafe authority = session.sharedAuthority(value) }
        case 12 where unsafe name.isEqual(to: "content-type"):
            unsafe isGRPC = Self.isGRPC(value)
        case 13 where unsafe name.isEqual(to: "grpc-encoding"):
            if unsafe value.isEqual(to: "gzip") {
                encoding = .gzip
            } else {
                encoding = unsafe value.isEqual(to: "identity") ? .identity : .unknown
            }
        default: break
        }
    }

    /// `application/grpc`, alone or with a message format behind `+` or parameters behind `;`.
    private static func isGRPC(_ value: UnsafeBufferPointer<UInt8>) -> Bool {
        let base: StaticString = "application/grpc"
        let count = base.utf8CodeUnitCount
        guard value.count >= count, unsafe UnsafeBufferPointer(rebasing: value[..<count]).isEqual(to: base) else {
            return false
        }
        guard value.count > count else { return true }
        return unsafe value[count] == UInt8(ascii: "+") || value[count] == UInt8(ascii: ";")
    }
}

extension UnsafeBufferPointer<UInt8> {
    func isEqual(to text: StaticString) -> Bool {
        unsafe isEqual(to: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// Compares eight bytes at a time: this runs for each header field of each request.
    func isEqual(to other: UnsafeBufferPointer<UInt8>) -> Bool {
        guard count == other.count else { return false }
        guard let mine = unsafe UnsafeRawPointer(baseAddress), let theirs = unsafe UnsafeRawPointer(other.baseAddress)
        else { return true }
        var offset = 0
        while offset + 8 <= count {
            let left = unsafe mine.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            let right = unsafe theirs.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            guard left == right else { return false }
            offset += 8
        }
        while offset < count {
            guard unsafe self[offset] == other[offset] else { return false }
            offset += 1
        }
        return true
    }
}
