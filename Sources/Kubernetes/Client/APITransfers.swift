// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CCurl
import CostModel
import Fleet

/// The requests in flight of one thread: libcurl's multi interface.
///
/// Confined to the thread that made it, except for its waker.
@safe final class APITransfers {
    enum Event {
        /// Bytes of an answer; none where it has only begun.
        case received(tag: Int, [UInt8], status: Int)
        case ended(tag: Int, status: Int, retryAfter: Double?, KubernetesFailure?)
    }

    /// What may arrive between two looks: a page of a list and more.
    private static let maxPending = 80 << 20
    /// Seconds. Short enough to go unnoticed, and a hundred turns a second cost nothing.
    private static let pauseAfterFailure = 0.01

    private let multi: UnsafeMutableRawPointer
    private let calls: any APICalls
    /// By tag; few.
    private var busy: [APITransfer] = []
    private var idle: [APITransfer] = []

    /// - Returns: nil where libcurl has no memory.
    init?(_ calls: any APICalls) {
        guard CurlLibrary.isReady, let multi = unsafe calls.multiHandle() else { return nil }
        self.calls = calls
        unsafe self.multi = multi
    }

    deinit {
        for transfer in busy { _ = unsafe calls.remove(transfer.handle, from: multi) }
        busy.removeAll()
        idle.removeAll()
        unsafe calls.release(multi: multi)
    }

    var waker: APIWaker { unsafe APIWaker(multi) }

    func start(
        _ tag: Int,
        _ request: KubernetesRequest,
        _ configuration: KubernetesConfiguration
    ) throws(KubernetesFailure) {
        guard let transfer = idle.popLast() ?? APITransfer(calls) else { throw .client }
        try transfer.prepare(request, configuration, tag: tag, limit: Self.maxPending)
        guard unsafe calls.add(transfer.handle, to: multi) == CURLM_OK else { throw .client }
        busy.append(transfer)
    }

    /// Drops a transfer, with its connection.
    func cancel(_ tag: Int) {
        guard let index = busy.firstIndex(where: { $0.tag == tag }) else { return }
        let transfer = busy.remove(at: index)
        _ = unsafe calls.remove(transfer.handle, from: multi)
    }

    /// Moves every transfer as far as it goes without waiting.
    func events() -> [Event] {
        guard unsafe calls.advance(multi) == CURLM_OK else { return abandoned() }
        var events = busy.compactMap(received)
        var code = CURLE_OK
        while let handle = unsafe calls.finished(multi, &code) {
            let isFree = unsafe calls.remove(handle, from: multi) == CURLM_OK
            let place = UInt(bitPattern: handle)
            guard let index = busy.firstIndex(where: { unsafe UInt(bitPattern: $0.handle) == place }) else { continue }
            let transfer = busy.remove(at: index)
            let retryAfter = transfer.headers.first { $0.name == "retry-after" }.flatMap { Double($0.value) }
            events.append(
                .ended(
                    tag: transfer.tag,
                    status: transfer.status,
                    // A date, which the header may hold too, is no number of seconds.
                    retryAfter: retryAfter.flatMap { $0.isFinite && $0 >= 0 ? $0 : nil },
                    transfer.failure(code)
                )
            )
            if isFree { idle.append(transfer) }
        }
        return events
    }

    /// libcurl moves nothing any more, not even to a time-out: every transfer is over, so that each is begun anew.
    private func abandoned() -> [Event] {
        let lost = busy
        busy = []
        for transfer in lost { _ = unsafe calls.remove(transfer.handle, from: multi) }
        return lost.map { .ended(tag: $0.tag, status: 0, retryAfter: nil, .client) }
    }

    private func received(_ transfer: APITransfer) -> Event? {
        let bytes = transfer.takeReceived()
        guard transfer.takeBeginning() || !bytes.isEmpty else { return nil }
        return .received(tag: transfer.tag, bytes, status: transfer.status)
    }

    /// Sleeps until a socket has news, the waker is called or the time is over.
    func wait(_ time: Seconds) {
        let milliseconds = CInt(min(max(time.milliseconds.rounded(.up), 0), 60_000))
        guard unsafe calls.poll(multi, milliseconds: milliseconds) != CURLM_OK else { return }
        // One that fails returns at once: its caller must not spin.
        ControlThread.sleep(seconds: min(time.rawValue, Self.pauseAfterFailure))
    }
}

/// Wakes the thread that waits in `APITransfers.wait`. The transfers must outlive it: `ClusterService` joins its thread
/// before it lets go of either.
///
/// `@unchecked Sendable`: curl_multi_wakeup is the one function of a multi handle that may be called from any thread.
@safe struct APIWaker: @unchecked Sendable {
    private let multi: UnsafeMutableRawPointer

    fileprivate init(_ multi: UnsafeMutableRawPointer) { unsafe self.multi = multi }

    func wake() { unsafe curl_multi_wakeup(multi) }
}
