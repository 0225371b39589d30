// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CNghttp2

/// The server's side of one HTTP/2 connection that carries gRPC. Bytes in, bytes out; no socket, no clock, no thread.
///
/// Owns one `nghttp2_session`. Confined to one loop. Call `connectionClosed` before letting go of it, so that each call
/// that is still open hears of its end.
@safe package final class HTTP2Session {
    /// Called when frames wait to be sent and none did before: write soon, from outside of any callback.
    package var onOutput: () -> Void = {}

    let limits: HTTP2Limits
    /// Received bytes of a stream for which its peer may wait: an eighth of its window.
    let windowStep: Int
    let service: any GRPCService
    let counters: HTTP2Counters
    private let raw: OpaquePointer
    private var calls: [GRPCServerCall] = []
    private var outputIsAnnounced = false
    private var isClosed = false
    /// Bytes that wait in the queues of all calls.
    private(set) var queuedBytes = 0
    /// Bytes of messages that are not whole.
    private var gatheredBytes = 0
    private let budget: BodyBudget?
    /// Of the budget.
    private var chargedBytes = 0
    /// Bytes of data in what is being received.
    private var consumedBytes = 0
    /// What waits to be sent: the loop's storage while it is lent to this session, else none.
    ///
    /// Not checked for overlapping accesses: what is called while it changes only appends to it.
    @exclusivity(unchecked) private var output = SendQueue()
    private let spareOutput: SpareOutput
    private let lendsBodies: Bool
    private var outputIsLent = false
    private var inflater: GzipInflaterBox?
    /// The path of the last request: most requests of a connection ask for the same, and share the string.
    private var lastPath = ""
    private var lastAuthority = ""

    /// `lendsBodies` says whether large bodies are sent from where they lie, by `lendOutput`. Else all output is copied into
    /// one piece, `outputBytes`.
    ///
    /// - Throws: where there is no memory.
    package init(
        service: any GRPCService,
        limits: HTTP2Limits = HTTP2Limits(),
        counters: HTTP2Counters = HTTP2Counters(),
        spareOutput: SpareOutput = SpareOutput(),
        lendsBodies: Bool = false,
        budget: BodyBudget? = nil
    ) throws(HTTP2Error) {
        self.lendsBodies = lendsBodies
        self.budget = budget
        self.service = service
        self.spareOutput = spareOutput
        self.limits = limits
        windowStep = max(1, Int(limits.streamWindowBytes) / 8)
        self.counters = counters
        unsafe raw = try SessionCallbacks.makeServerSession()
        unsafe SessionCallbacks.setOwner(raw, Unmanaged.passUnretained(self).toOpaque())
        try announceSettings()
    }

    deinit {
        connectionClosed()
        unsafe nghttp2_session_del(raw)
    }

    // MARK: Bytes

    /// Takes what the peer sent. After an error the connection is to be closed.
    package func receive(_ bytes: UnsafeRawBufferPointer) throws(HTTP2Error) {
        guard !isClosed, let start = bytes.baseAddress else { return }
        let taken = unsafe nghttp2_session_mem_recv(raw, start.assumingMemoryBound(to: UInt8.self), bytes.count)
        try HTTP2Error.check(taken)
        giveConnectionWindow()
        if unsafe nghttp2_session_want_write(raw) != 0 { announceOutput() }
    }

    /// Serializes frames until `limit` bytes wait to be sent, or there is nothing more to send.
    ///
    /// - Returns: whether it stopped at the limit.
    package func fillOutput(upTo limit: Int) throws(HTTP2Error) -> Bool {
        outputIsAnnounced = false
        guard !isClosed else { return false }
        if !outputIsLent, unsafe output.isEmpty {
            unsafe output.exchangeStorage(with: spareOutput)
            outputIsLent = true
        }
        defer { returnOutputIfEmpty() }
        while unsafe output.count < limit {
            var bytes: UnsafePointer<UInt8>?
            let count = unsafe nghttp2_session_mem_send(raw, &bytes)
            guard try HTTP2Error.check(count) > 0 else { return false }
            unsafe output.append(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
        }
        return true
    }

    package var hasOutput: Bool { unsafe !output.isEmpty }

    /// Whether the serialized bytes that wait lie in one piece, `outputBytes`: always where bodies are not lent.
    package var outputIsContiguous: Bool { unsafe output.isContiguous }

    /// Lends the serialized bytes that wait to be sent.
    package var outputBytes: UnsafeRawBufferPointer { unsafe output.bytes }

    /// Lends the serialized bytes that wait, from the first on, in as many pieces as there is room for.
    ///
    /// - Returns: how many pieces.
    package func lendOutput(_ pieces: UnsafeMutableBufferPointer<UnsafeRawBufferPointer>) -> Int {
        unsafe output.lend(pieces)
    }

    package func outputSent(_ count: Int) {
        unsafe output.removeFirst(count)
        returnOutputIfEmpty()
    }

    private func returnOutputIfEmpty() {
        guard outputIsLent, unsafe output.isEmpty else { return }
        unsafe output.exchangeStorage(with: spareOutput)
        outputIsLent = false
    }

    // MARK: Life

    package var openCalls: Int { calls.count }

    /// Whether nothing will be read or written any more: GOAWAY went one way or the other, and no stream is open.
    package var isFinished: Bool {
        unsafe nghttp2_session_want_read(raw) == 0 && nghttp2_session_want_write(raw) == 0 && output.isEmpty
    }

    /// First half of a drain (RFC 9113 section 6.8): asks the peer to open no more streams, but takes those on the way.
    package func announceShutdown() {
        guard !isClosed else { return }
        unsafe nghttp2_submit_shutdown_notice(raw)
        announceOutput()
    }

    /// Second half, about a round trip later: streams opened from now on are not looked at.
    package func refuseNewStreams() {
        guard !isClosed else { return }
        let last = unsafe nghttp2_session_get_last_proc_stream_id(raw)
        unsafe nghttp2_submit_goaway(raw, noFlags, last, NGHTTP2_NO_ERROR.rawValue, nil, 0)
        announceOutput()
    }

    /// The socket is gone: every open call ends.
    package func connectionClosed() {
        guard !isClosed else { return }
        isClosed = true
        onOutput = {}
        // In the order of opening, whatever order the closes of others left behind.
        let open = calls.sorted { $0.streamID < $1.streamID }
        calls = []
        for call in open { call.ended(.connectionLost) }
        (queuedBytes, gatheredBytes) = (0, 0)
        charge()
    }

    // MARK: What the callbacks tell

    func streamOpened(_ streamID: Int32) {
        let call = GRPCServerCall(streamID: streamID, session: self, slot: calls.count)
        calls.append(call)
        counters.streamsOpened.add()
        unsafe nghttp2_session_set_stream_user_data(raw, streamID, Unmanaged.passUnretained(call).toOpaque())
    }

    func streamClosed(_ call: GRPCServerCall, errorCode: UInt32) {
        let slot = call.slot
        guard slot < calls.count, calls[slot] === call else { return }
        // `call` itself is a pointer of nghttp2's. Where nothing handles a call, the array holds it alone.
        let closed = calls[slot]
        let last = calls.removeLast()
        if last !== closed {
            last.slot = slot
            calls[slot] = last
        }
        counters.streamsClosed.add()
        queuedBytes -= closed.queuedBytes
        gatheredBytes -= closed.gatheredBytes
        charge()
        closed.streamClosed(errorCode: errorCode)
    }

    /// The same string object as long as the path stays the same.
    func sharedPath(_ bytes: UnsafeBufferPointer<UInt8>) -> String {
        let isSame = unsafe lastPath.utf8.withContiguousStorageIfAvailable { unsafe $0.isEqual(to: bytes) }
        if isSame != true { unsafe lastPath = String(decoding: bytes, as: UTF8.self) }
        return lastPath
    }

    /// The same string object as long as the authority stays the same, which on one connection it does.
    func sharedAuthority(_ bytes: UnsafeBufferPointer<UInt8>) -> String {
        let isSame = unsafe lastAuthority.utf8.withContiguousStorageIfAvailable { unsafe $0.isEqual(to: bytes) }
        if isSame != true { unsafe lastAuthority = String(decoding: bytes, as: UTF8.self) }
        return lastAuthority
    }

    // MARK: What the calls ask

    func startResponse(_ call: GRPCServerCall) {
        unsafe ResponseFields.submitStart(raw, call)
        announceOutput()
    }

    func startPage(_ call: GRPCServerCall, _ page: HTTPPage) {
        unsafe ResponseFields.submitPage(raw, call, status: page.status, contentType: page.contentType)
        announceOutput()
    }

    func submitTrailers(_ call: GRPCServerCall, _ status: GRPCStatus) {
        unsafe ResponseFields.submitTrailers(raw, call.streamID, status)
    }

    func submitTrailersOnly(_ call: GRPCServerCall, _ status: GRPCStatus) {
        unsafe ResponseFields.submitTrailersOnly(raw, call.streamID, status)
        announceOutput()
    }

    func submitRejection(_ call: GRPCServerCall, httpStatus: Int) {
        unsafe ResponseFields.submitRejection(raw, call.streamID, httpStatus: httpStatus)
        announceOutput()
    }

    func reset(_ call: GRPCServerCall, _ errorCode: UInt32) {
        unsafe nghttp2_submit_rst_stream(raw, noFlags, call.streamID, errorCode)
        announceOutput()
    }

    func resumeSending(_ call: GRPCServerCall) {
        unsafe nghttp2_session_resume_data(raw, call.streamID)
        announceOutput()
    }

    /// Whether a call may queue `count` more bytes.
    func mayQueue(_ count: Int) -> Bool { count <= limits.maxConnectionQueueBytes - queuedBytes }

    func queued(_ count: Int) {
        queuedBytes += count
        charge()
    }

    /// - Returns: false where this made all connections hold more than there is room for.
    func gathered(_ count: Int) -> Bool {
        gatheredBytes += count
        return charge()
    }

    /// Counts what is held against the budget, in whole steps.
    @discardableResult
    private func charge() -> Bool {
        let held = queuedBytes + gatheredBytes
        // Far from the next step in most cases.
        guard let budget, held < chargedBytes || held - chargedBytes >= limits.chargeStepBytes else { return true }
        let wanted = held - held % limits.chargeStepBytes
        let more = wanted - chargedBytes
        chargedBytes = wanted
        guard more < 0 else { return budget.charge(more) }
        budget.give(-more)
        return true
    }

    /// Moves `count` bytes of a call's queue behind the frame header that nghttp2 made. A body stays where it lies.
    func send(frameHeader: UnsafePointer<UInt8>, from call: GRPCServerCall, _ count: Int) {
        unsafe output.append(UnsafeRawBufferPointer(start: frameHeader, count: frameHeaderBytes))
        unsafe call.move(count, to: &output, copying: !lendsBodies)
        queuedBytes -= count
        charge()
        call.sent()
    }

    /// Some of what came in was data.
    func consumed(_ count: Int) { consumedBytes &+= count }

    /// Gives the peer room on the connection for all that came in: it is bounded per stream.
    private func giveConnectionWindow() {
        guard consumedBytes > 0 else { return }
        unsafe nghttp2_session_consume_connection(raw, consumedBytes)
        consumedBytes = 0
    }

    func consumedOnStream(_ streamID: Int32, _ count: Int) {
        unsafe nghttp2_session_consume_stream(raw, streamID, count)
    }

    func withInflater<Result>(
        _ body: (inout GzipInflater) throws(GRPCStatus) -> Result
    ) throws(GRPCStatus) -> Result {
        let box: GzipInflaterBox
        if let inflater { box = inflater } else { box = try GzipInflaterBox() }
        inflater = box
        return try body(&box.inflater)
    }

    // MARK: Details

    private func announceSettings() throws(HTTP2Error) {
        let settings = [
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue),
                value: limits.maxConcurrentStreams
            ),
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue),
                value: UInt32(limits.streamWindowBytes)
            ),
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE.rawValue),
                value: limits.maxHeaderListBytes
            ),
        ]
        try unsafe HTTP2Error.check(nghttp2_submit_settings(raw, noFlags, settings, settings.count))
        try unsafe HTTP2Error.check(
            nghttp2_session_set_local_window_size(raw, noFlags, 0, limits.connectionWindowBytes)
        )
    }

    private func announceOutput() {
        guard !outputIsAnnounced, !isClosed else { return }
        outputIsAnnounced = true
        onOutput()
    }
}

/// Length of an HTTP/2 frame header (RFC 9113 section 4.1).
private let frameHeaderBytes = 9
private let noFlags = UInt8(NGHTTP2_FLAG_NONE.rawValue)

/// Lets a session make its inflater only when a compressed message comes.
final class GzipInflaterBox {
    var inflater: GzipInflater

    init() throws(GRPCStatus) { inflater = try GzipInflater() }
}
