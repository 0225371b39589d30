// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CCurl
import CostModel
import Fleet

/// One transfer handle of libcurl, for one request to the API server at a time.
///
/// HTTP/1.1 on purpose: each watch has a connection of its own, so that one that hangs does not take the others along, and
/// there are fewer than a dozen of them.
///
/// A class, because libcurl holds its address as the context of the callbacks.
///
/// `@unchecked Sendable`: used by one thread at a time. The loop of the watches keeps its own; `KubernetesClient` hands one
/// from call to call through its mutex.
@safe final class APITransfer: @unchecked Sendable {
    /// Status line and headers of an API server take a kilobyte.
    private static let maxHeaders = 64

    let handle: UnsafeMutableRawPointer
    private var headerList: UnsafeMutablePointer<curl_slist>?
    private var placeList: UnsafeMutablePointer<curl_slist>?
    private(set) var tag = 0
    private(set) var headers: [KubernetesResponse.Header] = []
    /// What came since it was last taken.
    private var received: [UInt8] = []
    private var limit = 0

    /// - Returns: nil where libcurl has no memory.
    init?() {
        guard CurlLibrary.isReady, let handle = unsafe curl_easy_init() else { return nil }
        unsafe self.handle = handle
    }

    deinit {
        unsafe curl_easy_cleanup(handle)
        unsafe curl_slist_free_all(headerList)
        unsafe curl_slist_free_all(placeList)
    }

    /// Makes the handle ready for a request. Credentials are read anew each time: they are renewed under us.
    ///
    /// `limit`: the most bytes that may be received and not yet taken.
    func prepare(
        _ request: KubernetesRequest,
        _ configuration: KubernetesConfiguration,
        tag: Int = 0,
        limit: Int
    ) throws(KubernetesFailure) {
        // What an earlier request set must not leak into this one. Connections and the cache of names stay.
        unsafe curl_easy_reset(handle)
        self.tag = tag
        self.limit = limit
        headers.removeAll(keepingCapacity: true)
        received.removeAll(keepingCapacity: true)
        let context = unsafe Unmanaged.passUnretained(self).toOpaque()
        unsafe epp_curl_set_write(handle, receiveBody, context)
        unsafe epp_curl_set_header(handle, receiveHeaderLine, context)
        unsafe epp_curl_set_pointer(handle, CURLOPT_PRIVATE, context)
        unsafe epp_curl_set_common(handle, "https,http")
        // A watch may be silent for long; a machine that vanished is noticed all the same.
        unsafe epp_curl_set_long(handle, CURLOPT_TCP_KEEPALIVE, 1)
        unsafe epp_curl_set_long(handle, CURLOPT_TCP_KEEPIDLE, 15)
        unsafe epp_curl_set_long(handle, CURLOPT_TCP_KEEPINTVL, 5)
        unsafe epp_curl_set_long(handle, CURLOPT_CONNECTTIMEOUT_MS, 5000)
        let milliseconds = Int(min(max(request.timeout.milliseconds, 1), 3_600_000))
        unsafe epp_curl_set_long(handle, CURLOPT_TIMEOUT_MS, milliseconds)
        setPlace(request, configuration)
        try setTrust(configuration)
        try setHeaders(request, configuration)
        setBody(request)
    }

    /// A server whose certificate bears another name is asked by that name, and connected to at its own address.
    private func setPlace(_ request: KubernetesRequest, _ configuration: KubernetesConfiguration) {
        var server = configuration.server
        unsafe curl_slist_free_all(placeList)
        unsafe placeList = nil
        if let name = configuration.tlsServerName, let place = APIServerPlace(server) {
            server = "\(place.scheme)://\(name):\(place.port)\(place.path)"
            unsafe placeList = curl_slist_append(nil, "::\(place.host):\(place.port)")
            unsafe epp_curl_set_pointer(handle, CURLOPT_CONNECT_TO, placeList)
        }
        unsafe epp_curl_set_string(handle, CURLOPT_URL, server + request.target)
    }

    private func setTrust(_ configuration: KubernetesConfiguration) throws(KubernetesFailure) {
        if let authority = configuration.authority { try setBlob(CURLOPT_CAINFO_BLOB, authority) }
        if !configuration.verifiesServer {
            unsafe epp_curl_set_long(handle, CURLOPT_SSL_VERIFYPEER, 0)
            unsafe epp_curl_set_long(handle, CURLOPT_SSL_VERIFYHOST, 0)
        }
        if let certificate = configuration.identity.certificate, let key = configuration.identity.key {
            try setBlob(CURLOPT_SSLCERT_BLOB, certificate)
            try setBlob(CURLOPT_SSLKEY_BLOB, key)
        }
    }

    /// As bytes, not as a path: libcurl would keep what it once read of a file, and reuse connections that rest on it.
    private func setBlob(
        _ option: CURLoption,
        _ material: KubernetesConfiguration.Material
    ) throws(KubernetesFailure) {
        let bytes = Array(try material.read().utf8)
        unsafe bytes.withUnsafeBytes { _ = unsafe epp_curl_set_blob(handle, option, $0.baseAddress, $0.count) }
    }

    private func setHeaders(
        _ request: KubernetesRequest,
        _ configuration: KubernetesConfiguration
    ) throws(KubernetesFailure) {
        unsafe curl_slist_free_all(headerList)
        unsafe headerList = nil
        var lines = ["Accept: application/json", "Expect:"]
        if request.body != nil { lines.append("Content-Type: \(request.contentType)") }
        if let token = try configuration.identity.token?.read() {
            // A file ends with a line break; one within would begin another header.
            let word = token.filter { !$0.isWhitespace && !$0.isNewline }
            lines.append("Authorization: Bearer \(word)")
        }
        for line in lines { unsafe headerList = curl_slist_append(headerList, line) }
        unsafe epp_curl_set_pointer(handle, CURLOPT_HTTPHEADER, headerList)
    }

    private func setBody(_ request: KubernetesRequest) {
        if request.method != "GET" { unsafe epp_curl_set_string(handle, CURLOPT_CUSTOMREQUEST, request.method) }
        guard let body = request.body else { return }
        unsafe epp_curl_set_long(handle, CURLOPT_POSTFIELDSIZE, body.count)
        unsafe body.withUnsafeBytes { bytes in
            // Copied by libcurl, after its size is known.
            _ = unsafe epp_curl_set_pointer(
                handle,
                CURLOPT_COPYPOSTFIELDS,
                UnsafeMutableRawPointer(mutating: bytes.baseAddress)
            )
        }
    }

    /// The answer's status; 0 before there is one.
    var status: Int {
        var status = 0
        unsafe epp_curl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
        return status
    }

    /// What was received since the last call.
    func takeReceived() -> [UInt8] {
        defer { received = [] }
        return received
    }

    /// What libcurl's result means. nil: the answer is whole.
    func failure(_ code: CURLcode) -> KubernetesFailure? {
        let text = unsafe String(cString: curl_easy_strerror(code))
        switch code {
        case CURLE_OK: return nil
        case CURLE_COULDNT_CONNECT, CURLE_COULDNT_RESOLVE_HOST: return .unreachable(text)
        case CURLE_OPERATION_TIMEDOUT: return .timedOut
        case CURLE_WRITE_ERROR: return .tooLarge
        case CURLE_GOT_NOTHING, CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_PARTIAL_FILE: return .connectionLost
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CACERT_BADFILE,
            CURLE_SSL_CIPHER, CURLE_SSL_ISSUER_ERROR:
            return .tls(text)
        case CURLE_UNSUPPORTED_PROTOCOL, CURLE_WEIRD_SERVER_REPLY, CURLE_BAD_CONTENT_ENCODING, CURLE_HTTP2:
            return .garbage(text)
        case CURLE_URL_MALFORMAT: return .unreachable(text)
        default: return .client
        }
    }

    // MARK: - Callbacks

    /// - Returns: false where too much waits to be taken; libcurl then gives the transfer up.
    fileprivate func receive(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        guard received.count + bytes.count <= limit else { return false }
        unsafe received.append(contentsOf: bytes)
        return true
    }

    fileprivate func receiveHeader(_ bytes: UnsafeBufferPointer<UInt8>) {
        let line = unsafe String(decoding: bytes, as: UTF8.self)
        // A new status line begins a new answer: 100 Continue came before.
        if line.hasPrefix("HTTP/") { return headers.removeAll(keepingCapacity: true) }
        guard headers.count < Self.maxHeaders, let colon = line.firstIndex(of: ":") else { return }
        let value = line[line.index(after: colon)...].filter { !$0.isNewline }
        headers.append(
            KubernetesResponse.Header(
                name: line[..<colon].lowercased(),
                value: String(value.drop { $0 == " " || $0 == "\t" })
            )
        )
    }
}

/// libcurl's write callback. `context` is the transfer that `prepare` set, alive while its handle is.
private func receiveBody(
    _ bytes: UnsafeMutablePointer<CChar>?,
    _ size: Int,
    _ count: Int,
    _ context: UnsafeMutableRawPointer?
) -> Int {
    guard let bytes = unsafe bytes, let context = unsafe context else { return 0 }
    let transfer = unsafe Unmanaged<APITransfer>.fromOpaque(context).takeUnretainedValue()
    let length = size * count
    let start = unsafe UnsafeRawPointer(bytes).assumingMemoryBound(to: UInt8.self)
    return unsafe transfer.receive(UnsafeBufferPointer(start: start, count: length)) ? length : 0
}

/// libcurl's header callback, called once for each line.
private func receiveHeaderLine(
    _ bytes: UnsafeMutablePointer<CChar>?,
    _ size: Int,
    _ count: Int,
    _ context: UnsafeMutableRawPointer?
) -> Int {
    guard let bytes = unsafe bytes, let context = unsafe context else { return 0 }
    let transfer = unsafe Unmanaged<APITransfer>.fromOpaque(context).takeUnretainedValue()
    let length = size * count
    let start = unsafe UnsafeRawPointer(bytes).assumingMemoryBound(to: UInt8.self)
    unsafe transfer.receiveHeader(UnsafeBufferPointer(start: start, count: length))
    return length
}
