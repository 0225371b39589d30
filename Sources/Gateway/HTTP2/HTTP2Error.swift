// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CNghttp2

/// Why the HTTP/2 layer gave up on a connection.
package enum HTTP2Error: Error, Sendable, Hashable {
    case outOfMemory
    /// The first bytes are not HTTP/2's connection preface (RFC 9113 section 3.4).
    case notHTTP2
    /// The peer made us queue more control frames than it reads.
    case flooded
    case other(code: Int32)

    init(code: CInt) {
        switch code {
        case NGHTTP2_ERR_NOMEM.rawValue: self = .outOfMemory
        case NGHTTP2_ERR_BAD_CLIENT_MAGIC.rawValue: self = .notHTTP2
        case NGHTTP2_ERR_FLOODED.rawValue: self = .flooded
        default: self = .other(code: code)
        }
    }

    /// Turns one of nghttp2's negative answers into an error: the only place where its codes are read.
    @discardableResult
    static func check<Code: BinaryInteger>(_ code: Code) throws(HTTP2Error) -> Int {
        guard code >= 0 else { throw HTTP2Error(code: CInt(truncatingIfNeeded: code)) }
        return Int(code)
    }
}
