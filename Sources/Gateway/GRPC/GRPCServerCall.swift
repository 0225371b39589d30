// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CNghttp2

/// One gRPC call on one HTTP/2 stream: reads messages, queues answers, and tells the handler of the end once.
final class GRPCServerCall: GRPCCall {
    let streamID: Int32
    /// Where the session keeps this call.
    var slot: Int
    /// Messages with their prefixes that wait for the peer's window.
    ///
    /// Not checked for overlapping accesses, like `form`, `request` and `reader`, since the checks cost more than the accesses: none
    /// of them is touched by what is called while it changes, but for `reader`, which lends messages to the handler and is
    /// not read by anything that a handler may call.
    @exclusivity(unchecked) private var queue = SendQueue()

    /// Outlives every call that is open: it ends its calls before it goes (`HTTP2Session.connectionClosed`), and a call
    /// that has ended does not touch it. Unowned without a count, since every message passes here several times.
    private unowned(unsafe) let session: HTTP2Session
    private var handler: (any GRPCCallHandler)?
    @exclusivity(unchecked) private var reader = GRPCMessageReader()
    @exclusivity(unchecked) private var form = RequestForm()
    @exclusivity(unchecked) private var request = RequestFields()
    private var response = Response.none
    private var isOpen = true
    private var remoteEnded = false
    /// Whether nghttp2 was told that there is nothing to send now.
    private var isDeferred = false
    private var areTrailersSent = false
    private var violation: GRPCStatus?
    /// Bytes of a message that is not whole, as the session knows them.
    private(set) var gatheredBytes = 0
    /// Received bytes for which the peer got no new window yet, since it does not take what we queued.
    private var withheldBytes = 0

    private enum Response {
        case none
        case started
        /// Trailers follow the queue.
        case finishing(GRPCStatus)
        /// The queue is a page: nothing follows.
        case page
        case ended
    }

    init(streamID: Int32, session: HTTP2Session, slot: Int) {
        self.streamID = streamID
        unsafe self.session = session
        self.slot = slot
    }

    var authority: String { unsafe request.authority }

    /// Bytes that wait.
    var queuedBytes: Int { unsafe queue.count }

    /// Moves `count` of the bytes that wait behind what `output` holds.
    func move(_ count: Int, to output: inout SendQueue, copying: Bool) {
        unsafe queue.move(count, to: &output, copying: copying)
    }

    // MARK: Request side

    /// - Returns: whether the request is well-formed so far. Otherwise its stream is to be reset.
    func header(name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>) -> Bool {
        guard unsafe form.take(name: name, value: value) else { return false }
        unsafe request.take(name: name, value: value, session)
        return true
    }

    func requestComplete() {
        guard unsafe form.isComplete else { return malformed() }
        let request = unsafe request
        let session = unsafe session
        if request.isGET, let page = session.service.page(path: request.path) { return send(page) }
        guard request.isPOST else { return session.submitRejection(self, httpStatus: 405) }
        guard request.isGRPC else { return session.submitRejection(self, httpStatus: 415) }
        if request.encoding == .unknown {
            return violate(GRPCStatus(.unimplemented, "grpc-encoding is not one of identity, gzip"))
        }
        // grpc-timeout is not looked at: the calls served here last as long as the peer's exchange.
        handler = session.service.handler(path: request.path, call: self)
        if handler == nil { violate(GRPCStatus(.unimplemented, "unknown method \(request.path)")) }
    }

    func received(_ bytes: UnsafeRawBufferPointer) {
        // The peer gets new window once its bytes are with the handler, unless it leaves too much of ours unread.
        defer {
            withheldBytes += bytes.count
            releaseWindow()
        }
        guard unsafe form.takeContent(bytes.count) else { return malformed() }
        guard isListening else { return }
        defer { countGathered() }
        do throws(GRPCStatus) {
            try unsafe reader.read(bytes, maxMessageBytes: session.limits.maxMessageBytes) {
                (compressed, message) throws(GRPCStatus) in
                try unsafe deliver(message, compressed: compressed)
                return isListening
            }
        } catch {
            if error.code == .resourceExhausted, let handler, handler.receivedTooLarge() { return }
            violate(error)
        }
    }

    private func countGathered() {
        let more = unsafe reader.gatheredBytes - gatheredBytes
        guard more != 0, isOpen else { return }
        gatheredBytes += more
        let hasRoom = unsafe session.gathered(more)
        if !hasRoom, more > 0, isListening { _ = handler?.receivedWithoutRoom() }
    }

    private func deliver(_ message: UnsafeRawBufferPointer, compressed: Bool) throws(GRPCStatus) {
        unsafe session.counters.messagesReceived.add()
        // Whole now: what of it the handler keeps, it counts itself.
        if gatheredBytes > 0 {
            unsafe _ = session.gathered(-gatheredBytes)
            gatheredBytes = 0
        }
        guard compressed else {
            unsafe handler?.received(message)
            return
        }
        guard unsafe request.encoding == .gzip else {
            throw GRPCStatus(.internal, "compressed message, but grpc-encoding names no compression")
        }
        let limit = unsafe session.limits.maxMessageBytes
        try unsafe session.withInflater { (inflater) throws(GRPCStatus) in
            try unsafe inflater.inflate(message, maxBytes: limit) { (plain) throws(GRPCStatus) in
                unsafe handler?.received(plain)
            }
        }
    }

    /// Whether what comes is of use to the handler: not once it has finished.
    private var isListening: Bool {
        guard handler != nil else { return false }
        switch response {
        case .none, .started: return true
        case .finishing, .page, .ended: return false
        }
    }

    func remoteHalfClosed() {
        remoteEnded = true
        guard unsafe form.isContentComplete else { return malformed() }
        guard isListening, let handler else { return }
        if unsafe reader.isAtBoundary {
            handler.remoteEnded()
        } else {
            violate(GRPCStatus(.internal, "stream ended inside a message"))
        }
    }

    // MARK: Response side

    func send(size: Int, _ write: (UnsafeMutableRawBufferPointer) -> Void) {
        guard mayBegin(size) else { return }
        let room = unsafe queue.append(GRPCMessageReader.prefixBytes + size)
        unsafe writePrefix(of: size, to: room)
        unsafe write(UnsafeMutableRawBufferPointer(rebasing: room[GRPCMessageReader.prefixBytes...]))
        queued(size)
    }

    func send(
        _ head: UnsafeRawBufferPointer,
        _ piece: UnsafeRawBufferPointer,
        of owner: AnyObject,
        _ tail: UnsafeRawBufferPointer
    ) {
        let size = head.count + piece.count + tail.count
        guard mayBegin(size) else { return }
        let room = unsafe queue.append(GRPCMessageReader.prefixBytes + head.count)
        unsafe writePrefix(of: size, to: room)
        unsafe UnsafeMutableRawBufferPointer(rebasing: room[GRPCMessageReader.prefixBytes...]).copyMemory(from: head)
        unsafe queue.attach(piece, of: owner)
        if unsafe !tail.isEmpty { unsafe queue.append(tail.count).copyMemory(from: tail) }
        queued(size)
    }

    /// Whether a message of that size may be queued. Ends the call where it is too much.
    private func mayBegin(_ size: Int) -> Bool {
        guard isOpen else { return false }
        switch response {
        case .none, .started: break
        case .finishing, .page, .ended: return false
        }
        let total = GRPCMessageReader.prefixBytes + size
        guard size >= 0, size <= Int(UInt32.max),
            unsafe total <= session.limits.maxStreamQueueBytes - queue.count && session.mayQueue(total)
        else {
            overflow()
            return false
        }
        return true
    }

    private func writePrefix(of size: Int, to room: UnsafeMutableRawBufferPointer) {
        unsafe room.storeBytes(of: 0, as: UInt8.self)
        unsafe room.storeBytes(of: UInt32(size).bigEndian, toByteOffset: 1, as: UInt32.self)
    }

    /// A message of that size was queued.
    private func queued(_ size: Int) {
        unsafe session.queued(GRPCMessageReader.prefixBytes + size)
        unsafe session.counters.messagesSent.add()
        pump()
    }

    func finish(_ status: GRPCStatus) {
        guard isOpen else { return }
        switch response {
        case .none:
            response = .ended
            unsafe session.submitTrailersOnly(self, status)
        case .started:
            response = .finishing(status)
            pump()
        case .finishing, .page, .ended: break
        }
    }

    private func send(_ page: HTTPPage) {
        let count = page.body.count
        guard unsafe count <= session.limits.maxStreamQueueBytes && session.mayQueue(count) else { return overflow() }
        let room = unsafe queue.append(count)
        unsafe page.body.withUnsafeBytes { unsafe room.copyMemory(from: $0) }
        unsafe session.queued(count)
        response = .page
        unsafe session.startPage(self, page)
    }

    /// What nghttp2 shall do when it could send `limit` bytes of this call.
    enum NextPiece {
        case wait
        case send(Int, isLast: Bool, hasTrailers: Bool = true)
    }

    func nextPiece(upTo limit: Int) -> NextPiece {
        let waiting = unsafe queue.count
        let count = min(limit, waiting)
        if case .page = response {
            let isLast = count == waiting
            if isLast {
                response = .ended
                areTrailersSent = true
            }
            return .send(count, isLast: isLast, hasTrailers: false)
        }
        guard count == waiting, case .finishing(let status) = response else {
            isDeferred = count == 0
            return count == 0 ? .wait : .send(count, isLast: false)
        }
        response = .ended
        unsafe session.submitTrailers(self, status)
        return .send(count, isLast: true)
    }

    /// Some of the bytes that waited became a frame.
    func sent() { releaseWindow() }

    /// Our END_STREAM went out. A peer that may still send is told not to (RFC 9113 section 8.1): it would be for nothing.
    func trailersSent() {
        response = .ended
        areTrailersSent = true
        if !remoteEnded { unsafe session.reset(self, NGHTTP2_NO_ERROR.rawValue) }
    }

    private func pump() {
        if case .none = response {
            response = .started
            unsafe session.startResponse(self)
        } else if isDeferred {
            isDeferred = false
            unsafe session.resumeSending(self)
        }
    }

    private func releaseWindow() {
        // nghttp2 tells the peer when half of a window is free. Asked in steps, it is asked once for many short messages.
        guard unsafe withheldBytes >= session.windowStep, isOpen,
            unsafe queue.count <= session.limits.streamQueueHighWater
        else { return }
        unsafe session.consumedOnStream(streamID, withheldBytes)
        withheldBytes = 0
    }

    // MARK: End

    /// The peer takes nothing: what waits for it would grow without bound.
    private func overflow() {
        violation = GRPCStatus(.resourceExhausted, "peer does not read")
        response = .ended
        unsafe session.reset(self, NGHTTP2_ENHANCE_YOUR_CALM.rawValue)
    }

    /// RFC 9113 section 8.1.1: a stream error.
    private func malformed() {
        response = .ended
        unsafe session.reset(self, NGHTTP2_PROTOCOL_ERROR.rawValue)
    }

    /// What came is no gRPC, or breaks a limit: the peer is told by `status`, the handler hears of the end at once.
    private func violate(_ status: GRPCStatus) {
        unsafe session.counters.streamsViolated.add()
        let handler = handler.take()
        finish(status)
        handler?.closed(.violated(status))
    }

    /// nghttp2 closed the stream, of whatever cause.
    func streamClosed(errorCode: UInt32) {
        if let violation {
            unsafe session.counters.streamsViolated.add()
            return ended(.violated(violation))
        }
        // A reset that crossed our trailers changes nothing.
        if areTrailersSent { return ended(.finished) }
        unsafe session.counters.streamsReset.add()
        ended(.reset(errorCode: errorCode))
    }

    /// The end, once and last. Does not touch the session, which may be on its way out.
    func ended(_ end: GRPCCallEnd) {
        guard isOpen else { return }
        isOpen = false
        unsafe queue.removeAll()
        handler.take()?.closed(end)
    }
}
