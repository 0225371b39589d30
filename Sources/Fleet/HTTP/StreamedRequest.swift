// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CCurl
package import CostModel

/// One HTTP request at a time whose answer is read as it comes. Blocks its thread until the answer has ended.
/// Confined to one thread.
@safe package final class StreamedRequest {
    private let handle: UnsafeMutableRawPointer
    private let receiver = CurlReceiver()
    private var receive: (Span<UInt8>) -> Bool = { _ in true }
    private let isStopped: @Sendable () -> Bool

    /// nil where libcurl has no memory.
    ///
    /// - Parameter isStopped: asked at least about once a second; true gives a transfer up, even while nothing arrives.
    package init?(isStopped: @escaping @Sendable () -> Bool = { false }) {
        guard CurlLibrary.isReady, let handle = unsafe curl_easy_init() else { return nil }
        unsafe self.handle = handle
        self.isStopped = isStopped
        let context = unsafe Unmanaged.passUnretained(self).toOpaque()
        unsafe receiver.take = { [unowned self] in receive(unsafe Span(_unsafeElements: $0)) }
        unsafe epp_curl_set_write(handle, receiveFromCurl, receiver.context)
        unsafe epp_curl_set_progress(handle, askToStop, context)
        unsafe epp_curl_set_common(handle, "http,https")
        // Tokens are timed: none may wait for the next.
        unsafe epp_curl_set_long(handle, CURLOPT_TCP_NODELAY, 1)
    }

    deinit { unsafe curl_easy_cleanup(handle) }

    /// Sends a JSON body and hands the answer's bytes to `receive` as they come, whatever the status.
    ///
    /// `bearer`: an API key, nil where none is needed. `receive` returns false to give the answer up.
    package func post(
        url: String,
        body: [UInt8],
        bearer: String?,
        timeout: Seconds,
        receive: @escaping (Span<UInt8>) -> Bool
    ) -> Result<Int, FetchFailure> {
        self.receive = receive
        defer { self.receive = { _ in true } }
        var headers: UnsafeMutablePointer<curl_slist>?
        unsafe headers = curl_slist_append(headers, "Content-Type: application/json")
        // Without it libcurl waits a second for 100 Continue before it sends larger bodies.
        unsafe headers = curl_slist_append(headers, "Expect:")
        if let bearer { unsafe headers = curl_slist_append(headers, "Authorization: Bearer \(bearer)") }
        defer { unsafe curl_slist_free_all(headers) }
        unsafe epp_curl_set_string(handle, CURLOPT_URL, url)
        unsafe epp_curl_set_pointer(handle, CURLOPT_HTTPHEADER, headers)
        unsafe epp_curl_set_long(handle, CURLOPT_TIMEOUT_MS, Int(min(max(timeout.milliseconds, 1), 3_600_000)))
        unsafe epp_curl_set_long(handle, CURLOPT_POSTFIELDSIZE, body.count)
        let code = unsafe body.withUnsafeBytes { bytes in
            unsafe epp_curl_set_pointer(
                handle,
                CURLOPT_POSTFIELDS,
                UnsafeMutableRawPointer(mutating: bytes.baseAddress)
            )
            return unsafe curl_easy_perform(handle)
        }
        return unsafe Self.outcome(code, handle)
    }

    /// Fetches a page, and hands its bytes to `receive` as they come, whatever the status.
    package func get(
        url: String,
        timeout: Seconds,
        receive: @escaping (Span<UInt8>) -> Bool
    ) -> Result<Int, FetchFailure> {
        self.receive = receive
        defer { self.receive = { _ in true } }
        unsafe epp_curl_set_string(handle, CURLOPT_URL, url)
        unsafe epp_curl_set_pointer(handle, CURLOPT_HTTPHEADER, nil)
        unsafe epp_curl_set_long(handle, CURLOPT_HTTPGET, 1)
        unsafe epp_curl_set_long(handle, CURLOPT_TIMEOUT_MS, Int(min(max(timeout.milliseconds, 1), 3_600_000)))
        return unsafe Self.outcome(curl_easy_perform(handle), handle)
    }

    private static func outcome(_ code: CURLcode, _ handle: UnsafeMutableRawPointer) -> Result<Int, FetchFailure> {
        guard code == CURLE_OK else { return .failure(FetchFailure(code)) }
        var status = 0
        unsafe epp_curl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
        return .success(status)
    }

    fileprivate var shallStop: Bool { isStopped() }
}

/// libcurl's progress callback, with the same context as the write callback.
private func askToStop(
    _ context: UnsafeMutableRawPointer?,
    _: curl_off_t,
    _: curl_off_t,
    _: curl_off_t,
    _: curl_off_t
) -> Int32 {
    guard let context = unsafe context else { return 1 }
    return unsafe Unmanaged<StreamedRequest>.fromOpaque(context).takeUnretainedValue().shallStop ? 1 : 0
}
