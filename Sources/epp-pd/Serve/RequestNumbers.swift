// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router

/// Gives each request of one loop a number that says which loop it belongs to.
struct RequestNumbers {
    /// Bits that hold the loop's index.
    private static let loopBits: UInt64 = 8
    /// More loops than cores that an endpoint picker will ever need.
    static let maxLoops = 1 << Int(loopBits)

    private let loop: UInt64
    private var last: UInt64 = 0

    init(loop: Int) { self.loop = UInt64(loop) & (1 << Self.loopBits - 1) }

    mutating func next() -> RequestID {
        last &+= 1
        return RequestID(last << Self.loopBits | loop)
    }

    /// Index of the loop that a request belongs to.
    static func loop(of request: RequestID) -> Int { Int(request.rawValue & (1 << loopBits - 1)) }
}
