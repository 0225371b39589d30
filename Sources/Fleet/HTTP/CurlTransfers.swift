// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CCurl
import CostModel

/// Many transfers at a time on one thread: libcurl's multi interface, with a pool of handles and kept connections.
///
/// Confined to the thread that made it, except for `CurlWaker`.
@safe final class CurlTransfers {
    private let multi: UnsafeMutableRawPointer
    private var idle: [CurlTransfer] = []
    /// By the address of the handle.
    private var busy: [UInt: CurlTransfer] = [:]

    /// - Returns: nil where libcurl has no memory.
    init?() {
        guard CurlLibrary.isReady, let multi = unsafe curl_multi_init() else { return nil }
        unsafe self.multi = multi
    }

    deinit {
        for transfer in busy.values { unsafe curl_multi_remove_handle(multi, transfer.handle) }
        busy.removeAll()
        idle.removeAll()
        unsafe curl_multi_cleanup(multi)
    }

    var waker: CurlWaker { unsafe CurlWaker(multi) }

    /// Connections that are kept open between pages.
    func keep(connections: Int) {
        unsafe epp_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, connections)
    }

    /// Begins to fetch a page. `finished` will give it with the same tag.
    /// - Returns: false where libcurl has no memory: nothing will come.
    func start(tag: Int, url: String, reader: PageReader, timeout: Seconds) -> Bool {
        // A whole page in few reads.
        guard let transfer = idle.popLast() ?? CurlTransfer(bufferSize: 64 * 1024) else { return false }
        transfer.prepare(tag: tag, url: url, reader: reader, timeout: timeout)
        guard unsafe curl_multi_add_handle(multi, transfer.handle) == CURLM_OK else { return false }
        unsafe busy[UInt(bitPattern: transfer.handle)] = transfer
        return true
    }

    /// Moves every transfer as far as it goes without waiting, and gives those that are over.
    func finished() -> [(tag: Int, result: Result<FleetMachine.Content, FetchFailure>)] {
        var running: CInt = 0
        unsafe curl_multi_perform(multi, &running)
        var result: [(tag: Int, result: Result<FleetMachine.Content, FetchFailure>)] = []
        var code = CURLE_OK
        while let handle = unsafe epp_curl_multi_finished(multi, &code) {
            unsafe curl_multi_remove_handle(multi, handle)
            guard let transfer = busy.removeValue(forKey: UInt(bitPattern: handle)) else { continue }
            result.append((transfer.tag, transfer.result(code)))
            idle.append(transfer)
        }
        return result
    }

    /// Sleeps until a socket has news, the waker is called or the time is over.
    func wait(_ time: Seconds) {
        let milliseconds = CInt(min(max(time.milliseconds.rounded(.up), 0), 60_000))
        unsafe curl_multi_poll(multi, nil, 0, milliseconds, nil)
    }
}

/// Wakes the thread that waits in `CurlTransfers.wait`. The transfers must outlive it: `FleetService` joins its thread
/// before it lets go of either.
///
/// `@unchecked Sendable`: curl_multi_wakeup is the one function of a multi handle that may be called from any thread.
@safe struct CurlWaker: @unchecked Sendable {
    private let multi: UnsafeMutableRawPointer

    fileprivate init(_ multi: UnsafeMutableRawPointer) { unsafe self.multi = multi }

    func wake() { unsafe curl_multi_wakeup(multi) }
}
