// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A gRPC status code, as the grpc-status trailer carries it.
package enum GRPCStatusCode: UInt8, Sendable, Hashable {
    case ok = 0
    case cancelled = 1
    case unknown = 2
    case invalidArgument = 3
    case deadlineExceeded = 4
    case notFound = 5
    case resourceExhausted = 8
    case unimplemented = 12
    case `internal` = 13
    case unavailable = 14
}

package struct GRPCStatus: Error, Sendable, Hashable {
    package var code: GRPCStatusCode
    package var message: String

    package init(_ code: GRPCStatusCode, _ message: String = "") {
        self.code = code
        self.message = message
    }

    package static let ok = GRPCStatus(.ok)
}

/// How a call came to its end, as its handler hears it.
package enum GRPCCallEnd: Sendable, Hashable {
    /// The peer reset the stream. Envoy ends every ext_proc stream so, successful ones too: no error.
    case reset(errorCode: UInt32)
    /// The connection went away.
    case connectionLost
    /// Our own trailers were sent.
    case finished
    /// What the peer sent was no gRPC, or broke a limit; the status that it was told.
    case violated(GRPCStatus)
}

/// The server's side of one open gRPC call. Confined to its connection's loop.
package protocol GRPCCall: AnyObject {
    /// Whom the peer means to ask: the request's `:authority`. Empty where it names none.
    var authority: String { get }
    /// Queues one message of exactly `size` bytes, which `write` fills in place: the only copy on the way out.
    /// Does nothing once the call is over.
    func send(size: Int, _ write: (UnsafeMutableRawBufferPointer) -> Void)
    /// Queues one message of three parts. `piece` lies in memory that `owner` keeps, unchanged, for as long as it lives, and
    /// may be sent from there.
    func send(
        _ head: UnsafeRawBufferPointer,
        _ piece: UnsafeRawBufferPointer,
        of owner: AnyObject,
        _ tail: UnsafeRawBufferPointer
    )
    /// Sends what is queued, then trailers with `status`. Nothing can be sent after it, and nothing is heard but `closed`.
    func finish(_ status: GRPCStatus)
}

/// What happens on one gRPC call. Confined to its connection's loop.
package protocol GRPCCallHandler: AnyObject {
    /// One whole message, decompressed. Lent for the duration of the call only.
    func received(_ message: UnsafeRawBufferPointer)
    /// A message begins that is larger than any that is taken, and is not kept.
    ///
    /// - Returns: true when the handler has answered it and finished the call. Else the call ends as RESOURCE_EXHAUSTED.
    func receivedTooLarge() -> Bool
    /// A part of a message came, and there is no room for it.
    ///
    /// - Returns: true when the handler has answered it and finished the call. Else the message is taken after all.
    func receivedWithoutRoom() -> Bool
    /// The peer half-closed: no further message comes.
    func remoteEnded()
    /// The call is over. Comes exactly once, and last.
    func closed(_ end: GRPCCallEnd)
}

/// Gives each new call its handler.
package protocol GRPCService: AnyObject {
    /// - Returns: the handler, or nil where the method is not known: the call then ends as `unimplemented`.
    func handler(path: String, call: any GRPCCall) -> (any GRPCCallHandler)?
    /// - Returns: the answer to a plain GET, or nil where only gRPC is served.
    func page(path: String) -> HTTPPage?
}

extension GRPCService {
    package func page(path: String) -> HTTPPage? { nil }
}

/// An answer to a plain GET over HTTP/2.
package struct HTTPPage: Sendable, Hashable {
    package var status: Int
    package var contentType: String
    package var body: [UInt8]

    package init(status: Int, contentType: String, body: [UInt8]) {
        self.status = status
        self.contentType = contentType
        self.body = body
    }
}

extension GRPCCall {
    package var authority: String { "" }

    package func send(
        _ head: UnsafeRawBufferPointer,
        _ piece: UnsafeRawBufferPointer,
        of owner: AnyObject,
        _ tail: UnsafeRawBufferPointer
    ) {
        unsafe send(size: head.count + piece.count + tail.count) { room in
            unsafe room.copyMemory(from: head)
            unsafe UnsafeMutableRawBufferPointer(rebasing: room[head.count...]).copyMemory(from: piece)
            unsafe UnsafeMutableRawBufferPointer(rebasing: room[(head.count + piece.count)...]).copyMemory(from: tail)
        }
    }
}

extension GRPCCallHandler {
    package func receivedTooLarge() -> Bool { false }
    package func receivedWithoutRoom() -> Bool { false }
}
