// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CCurl
import CostModel

/// One transfer handle of libcurl and the page that it fetches. Used again for page after page; the connections belong
/// to the multi handle, which keeps them alive. Confined to one thread.
@safe final class CurlTransfer {
    /// A metrics page of a real vLLM has 64 KB for each engine core; sixteen cores behind one port fill a mebibyte.
    static let maxPage = 2 << 20

    let handle: UnsafeMutableRawPointer
    private let receiver = CurlReceiver()
    private(set) var tag = 0
    private var reader = PageReader.models([])
    private var received = 0

    /// nil where libcurl has no memory.
    ///
    /// - Parameter bufferSize: bytes that are read at once.
    init?(bufferSize: Int) {
        guard let handle = unsafe curl_easy_init() else { return nil }
        unsafe self.handle = handle
        let context = unsafe Unmanaged.passUnretained(self).toOpaque()
        unsafe receiver.take = { [unowned self] in unsafe receive($0) }
        unsafe epp_curl_set_write(handle, receiveFromCurl, receiver.context)
        unsafe epp_curl_set_pointer(handle, CURLOPT_PRIVATE, context)
        unsafe epp_curl_set_common(handle, "http")
        unsafe epp_curl_set_long(handle, CURLOPT_TCP_KEEPALIVE, 1)
        unsafe epp_curl_set_long(handle, CURLOPT_BUFFERSIZE, bufferSize)
    }

    deinit { unsafe curl_easy_cleanup(handle) }

    func prepare(tag: Int, url: String, reader: PageReader, timeout: Seconds) {
        self.tag = tag
        self.reader = reader
        received = 0
        let milliseconds = Int(min(max(timeout.milliseconds, 1), 600_000))
        unsafe epp_curl_set_string(handle, CURLOPT_URL, url)
        unsafe epp_curl_set_long(handle, CURLOPT_TIMEOUT_MS, milliseconds)
    }

    /// The page, or why there is none.
    func result(_ code: CURLcode) -> Result<FleetMachine.Content, FetchFailure> {
        guard code == CURLE_OK else { return .failure(FetchFailure(code)) }
        var status = 0
        unsafe epp_curl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
        guard status == 200 else { return .failure(.status(status)) }
        return reader.finish()
    }

    /// - Returns: false where the page is too large; libcurl then gives the transfer up.
    private func receive(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        received += bytes.count
        guard received <= Self.maxPage else { return false }
        reader.consume(unsafe Span(_unsafeElements: bytes))
        return true
    }
}
