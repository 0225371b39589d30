// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CNghttp2

/// What RFC 9113 sections 8.1 to 8.3 ask of a request, told field by field: one that breaks it is malformed.
///
/// nghttp2 would look after this, and with it after `:authority` being one by RFC 3986. Envoy puts the name of a cluster there
/// unless it is told another, and those of Istio hold `|`: with nghttp2's rules no request of an Istio gateway would come in.
struct RequestForm {
    /// Bits of `seen`. A plain number: this runs for each field of each request.
    private enum Seen {
        static let method: UInt8 = 1
        static let scheme: UInt8 = 2
        static let path: UInt8 = 4
        static let authority: UInt8 = 8
        /// A field that is no pseudo-header field: no pseudo-header field may follow.
        static let regular: UInt8 = 16
        static let needed = method | scheme | path
    }

    private var seen: UInt8 = 0
    private var contentLength: Int?
    private var contentBytes = 0

    /// Whether the fields that every request has were there.
    var isComplete: Bool { seen & Seen.needed == Seen.needed }

    /// - Returns: whether the request is still well-formed.
    mutating func take(name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>) -> Bool {
        guard name.count > 0 else { return false }
        if unsafe name[0] == UInt8(ascii: ":") { return unsafe takePseudo(name, value) }
        seen |= Seen.regular
        return unsafe nghttp2_check_header_name(name.baseAddress, name.count) != 0
            && nghttp2_check_header_value(value.baseAddress, value.count) != 0 && takeRegular(name, value)
    }

    private mutating func takePseudo(_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) -> Bool {
        let field: UInt8
        switch name.count {
        case 5 where unsafe name.isEqual(to: ":path"): field = Seen.path
        case 7 where unsafe name.isEqual(to: ":method"): field = Seen.method
        case 7 where unsafe name.isEqual(to: ":scheme"): field = Seen.scheme
        case 10 where unsafe name.isEqual(to: ":authority"): field = Seen.authority
        default: return false
        }
        guard seen & (field | Seen.regular) == 0, value.count > 0 || field == Seen.authority else { return false }
        seen |= field
        if field == Seen.path { return unsafe nghttp2_check_path(value.baseAddress, value.count) != 0 }
        return unsafe nghttp2_check_header_value(value.baseAddress, value.count) != 0
    }

    private mutating func takeRegular(_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) -> Bool {
        switch name.count {
        case 2 where unsafe name.isEqual(to: "te"): return unsafe value.isEqual(to: "trailers")
        // Section 8.2.2: fields of a connection, which HTTP/2 has none of.
        case 7 where unsafe name.isEqual(to: "upgrade"): return false
        case 10 where unsafe name.isEqual(to: "connection") || name.isEqual(to: "keep-alive"): return false
        case 16 where unsafe name.isEqual(to: "proxy-connection"): return false
        case 17 where unsafe name.isEqual(to: "transfer-encoding"): return false
        case 14 where unsafe name.isEqual(to: "content-length"):
            guard contentLength == nil, let length = unsafe Self.number(value) else { return false }
            contentLength = length
            return true
        default: return true
        }
    }

    /// - Returns: whether this much more is within the length that the request gave.
    mutating func takeContent(_ count: Int) -> Bool {
        contentBytes &+= count
        return contentBytes <= contentLength ?? .max
    }

    /// Whether all of the length that the request gave was there.
    var isContentComplete: Bool { contentLength.map { $0 == contentBytes } ?? true }

    private static func number(_ digits: UnsafeBufferPointer<UInt8>) -> Int? {
        // 18 digits fit.
        guard digits.count > 0, digits.count <= 18 else { return nil }
        var number = 0
        for index in 0..<digits.count {
            let digit = unsafe digits[index]
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else { return nil }
            number = number * 10 + Int(digit - UInt8(ascii: "0"))
        }
        return number
    }
}
