// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CCurl
import Configuration
import Fleet

/// The calls that requests to the API server make of libcurl and of the file system: a seam, so that tests can make the n-th
/// of them fail.
protocol APICalls: Sendable {
    /// nil: libcurl has no memory. As of `multiHandle`.
    func easyHandle() -> UnsafeMutableRawPointer?
    func multiHandle() -> UnsafeMutableRawPointer?
    func release(easy handle: UnsafeMutableRawPointer)
    func release(multi: UnsafeMutableRawPointer)

    func set(_ handle: UnsafeMutableRawPointer, _ option: CURLoption, _ value: APISetting) -> CURLcode
    func setCommon(_ handle: UnsafeMutableRawPointer) -> CURLcode
    func setReceivers(_ handle: UnsafeMutableRawPointer, body: CurlReceiver, header: CurlReceiver) -> CURLcode
    /// The list's new head; nil, and the list as it was, where libcurl has no memory.
    func append(_ line: String, to list: UnsafeMutablePointer<curl_slist>?) -> UnsafeMutablePointer<curl_slist>?

    /// Carries one request out, to its end.
    func perform(_ handle: UnsafeMutableRawPointer) -> CURLcode

    func add(_ handle: UnsafeMutableRawPointer, to multi: UnsafeMutableRawPointer) -> CURLMcode
    func remove(_ handle: UnsafeMutableRawPointer, from multi: UnsafeMutableRawPointer) -> CURLMcode
    /// Moves every request of the handle as far as it goes without waiting.
    func advance(_ multi: UnsafeMutableRawPointer) -> CURLMcode
    /// The next request that is over. The result is of no meaning where there is none.
    func finished(_ multi: UnsafeMutableRawPointer, _ result: inout CURLcode) -> UnsafeMutableRawPointer?
    func poll(_ multi: UnsafeMutableRawPointer, milliseconds: CInt) -> CURLMcode

    func text(path: String, limit: Int) throws(FileContents.Failure) -> String
}

/// What an option of libcurl is set to.
@safe enum APISetting {
    case number(Int)
    case text(String)
    /// libcurl keeps a copy.
    case bytes([UInt8])
    case pointer(UnsafeMutableRawPointer)
    /// Without what libcurl would have by itself.
    case nothing
}

/// libcurl itself, and the files that there are.
struct LibcurlCalls: APICalls {
    func easyHandle() -> UnsafeMutableRawPointer? { unsafe curl_easy_init() }

    func multiHandle() -> UnsafeMutableRawPointer? { unsafe curl_multi_init() }

    func release(easy handle: UnsafeMutableRawPointer) { unsafe curl_easy_cleanup(handle) }

    func release(multi: UnsafeMutableRawPointer) { unsafe curl_multi_cleanup(multi) }

    func set(_ handle: UnsafeMutableRawPointer, _ option: CURLoption, _ value: APISetting) -> CURLcode {
        switch value {
        case .number(let number): return unsafe epp_curl_set_long(handle, option, number)
        case .text(let text): return unsafe epp_curl_set_string(handle, option, text)
        case .bytes(let bytes):
            return unsafe bytes.withUnsafeBytes { unsafe epp_curl_set_blob(handle, option, $0.baseAddress, $0.count) }
        case .pointer(let pointer): return unsafe epp_curl_set_pointer(handle, option, pointer)
        case .nothing: return unsafe epp_curl_clear(handle, option)
        }
    }

    func setCommon(_ handle: UnsafeMutableRawPointer) -> CURLcode { unsafe epp_curl_set_common(handle, "https,http") }

    func setReceivers(_ handle: UnsafeMutableRawPointer, body: CurlReceiver, header: CurlReceiver) -> CURLcode {
        let code = unsafe epp_curl_set_write(handle, receiveFromCurl, body.context)
        return code == CURLE_OK ? unsafe epp_curl_set_header(handle, receiveFromCurl, header.context) : code
    }

    func append(_ line: String, to list: UnsafeMutablePointer<curl_slist>?) -> UnsafeMutablePointer<curl_slist>? {
        unsafe curl_slist_append(list, line)
    }

    func perform(_ handle: UnsafeMutableRawPointer) -> CURLcode { unsafe curl_easy_perform(handle) }

    func add(_ handle: UnsafeMutableRawPointer, to multi: UnsafeMutableRawPointer) -> CURLMcode {
        unsafe curl_multi_add_handle(multi, handle)
    }

    func remove(_ handle: UnsafeMutableRawPointer, from multi: UnsafeMutableRawPointer) -> CURLMcode {
        unsafe curl_multi_remove_handle(multi, handle)
    }

    func advance(_ multi: UnsafeMutableRawPointer) -> CURLMcode {
        var running: CInt = 0
        return unsafe curl_multi_perform(multi, &running)
    }

    func finished(_ multi: UnsafeMutableRawPointer, _ result: inout CURLcode) -> UnsafeMutableRawPointer? {
        unsafe epp_curl_multi_finished(multi, &result)
    }

    func poll(_ multi: UnsafeMutableRawPointer, milliseconds: CInt) -> CURLMcode {
        unsafe curl_multi_poll(multi, nil, 0, milliseconds, nil)
    }

    func text(path: String, limit: Int) throws(FileContents.Failure) -> String {
        try FileContents.text(path: path, limit: limit)
    }
}
