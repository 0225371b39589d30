// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CCurl
import CostModel

/// The requests in flight of one thread: libcurl's multi interface.
///
/// Confined to the thread that made it, except for its waker.
@safe final class APITransfers {
    enum Event {
        case received(tag: Int, [UInt8], status: Int)
        case ended(tag: Int, status: Int, retryAfter: Double?, KubernetesFailure?)
    }

    /// What may arrive between two looks: a page of a list and more.
    private static let maxPending = 80 << 20

    private let multi: UnsafeMutableRawPointer
    /// By tag; few.
    private var busy: [APITransfer] = []
    private var idle: [APITransfer] = []

    /// - Returns: nil where libcurl has no memory.
    init?() {
        guard let multi = unsafe curl_multi_init() else { return nil }
        unsafe self.multi = multi
    }

    deinit {
        for transfer in busy { unsafe curl_multi_remove_handle(multi, transfer.handle) }
        busy.removeAll()
        idle.removeAll()
        unsafe curl_multi_cleanup(multi)
    }

    var waker: APIWaker { unsafe APIWaker(multi) }

    func start(
        _ tag: Int,
        _ request: KubernetesRequest,
        _ configuration: KubernetesConfiguration
    ) throws(KubernetesFailure) {
        guard let transfer = idle.popLast() ?? APITransfer() else { throw .client }
        try transfer.prepare(request, configuration, tag: tag, limit: Self.maxPending)
        guard unsafe curl_multi_add_handle(multi, transfer.handle) == CURLM_OK else { throw .client }
        busy.append(transfer)
    }

    /// Drops a transfer, with its connection.
    func cancel(_ tag: Int) {
        guard let index = busy.firstIndex(where: { $0.tag == tag }) else { return }
        let transfer = busy.remove(at: index)
        unsafe curl_multi_remove_handle(multi, transfer.handle)
    }

    /// Moves every transfer as far as it goes without waiting.
    func events() -> [Event] {
        var running: CInt = 0
        unsafe curl_multi_perform(multi, &running)
        var events = busy.compactMap(received)
        var code = CURLE_OK
        while let handle = unsafe epp_curl_multi_finished(multi, &code) {
            unsafe curl_multi_remove_handle(multi, handle)
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
            idle.append(transfer)
        }
        return events
    }

    private func received(_ transfer: APITransfer) -> Event? {
        let bytes = transfer.takeReceived()
        return bytes.isEmpty ? nil : .received(tag: transfer.tag, bytes, status: transfer.status)
    }

    /// Sleeps until a socket has news, the waker is called or the time is over.
    func wait(_ time: Seconds) {
        let milliseconds = CInt(min(max(time.milliseconds.rounded(.up), 0), 60_000))
        unsafe curl_multi_poll(multi, nil, 0, milliseconds, nil)
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
