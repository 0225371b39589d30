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
/// `@unchecked Sendable`: used by one thread at a time. The loop of the watches keeps its own; `KubernetesClient` hands one
/// from call to call through its mutex.
@safe final class APITransfer: @unchecked Sendable {
    /// Status line and headers of an API server take a kilobyte.
    private static let maxHeaders = 64

    let handle: UnsafeMutableRawPointer
    private let body = CurlReceiver()
    private let headerLine = CurlReceiver()
    private let calls: any APICalls
    private var headerList: UnsafeMutablePointer<curl_slist>?
    private var placeList: UnsafeMutablePointer<curl_slist>?
    private(set) var tag = 0
    private(set) var headers: [KubernetesResponse.Header] = []
    /// What came since it was last taken.
    private var received: [UInt8] = []
    /// The headers are whole, and nobody asked yet.
    private var hasNewAnswer = false
    private var limit = 0

    /// - Returns: nil where libcurl has no memory.
    init?(_ calls: any APICalls) {
        guard CurlLibrary.isReady, let handle = unsafe calls.easyHandle() else { return nil }
        self.calls = calls
        unsafe self.handle = handle
        unsafe body.take = { [unowned self] in unsafe receive($0) }
        unsafe headerLine.take = { [unowned self] in
            unsafe receiveHeader($0)
            return true
        }
    }

    deinit {
        unsafe calls.release(easy: handle)
        unsafe curl_slist_free_all(headerList)
        unsafe curl_slist_free_all(placeList)
    }

    /// Makes the handle ready for a request. Credentials are read anew each time: they are renewed under us.
    ///
    /// `limit`: the most bytes that may be received and not yet taken.
    ///
    /// - Throws: where a file cannot be read, or libcurl does not take a setting. The handle must not be used then: a request
    ///   without what was asked for might trust whom it should not.
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
        hasNewAnswer = false
        try check(unsafe calls.setReceivers(handle, body: body, header: headerLine))
        try unsafe set(CURLOPT_PRIVATE, .pointer(Unmanaged.passUnretained(self).toOpaque()))
        try check(unsafe calls.setCommon(handle))
        // A watch may be silent for long; a machine that vanished is noticed all the same.
        try set(CURLOPT_TCP_KEEPALIVE, .number(1))
        try set(CURLOPT_TCP_KEEPIDLE, .number(15))
        try set(CURLOPT_TCP_KEEPINTVL, .number(5))
        try set(CURLOPT_CONNECTTIMEOUT_MS, .number(5000))
        let milliseconds = Int(min(max(request.timeout.milliseconds, 1), 3_600_000))
        try set(CURLOPT_TIMEOUT_MS, .number(milliseconds))
        try setPlace(request, configuration)
        try setTrust(configuration)
        try setHeaders(request, configuration)
        try setBody(request)
    }

    private func check(_ code: CURLcode) throws(KubernetesFailure) {
        guard code == CURLE_OK else { throw .client }
    }

    private func set(_ option: CURLoption, _ value: APISetting) throws(KubernetesFailure) {
        try check(unsafe calls.set(handle, option, value))
    }

    private func setList(
        _ option: CURLoption,
        _ list: UnsafeMutablePointer<curl_slist>?
    ) throws(KubernetesFailure) {
        guard let list = unsafe list else { return }
        try unsafe set(option, .pointer(UnsafeMutableRawPointer(list)))
    }

    private func append(
        _ line: String,
        to list: inout UnsafeMutablePointer<curl_slist>?
    ) throws(KubernetesFailure) {
        guard let longer = unsafe calls.append(line, to: list) else { throw .client }
        unsafe list = longer
    }

    /// A server whose certificate bears another name is asked by that name, and connected to at its own address.
    private func setPlace(
        _ request: KubernetesRequest,
        _ configuration: KubernetesConfiguration
    ) throws(KubernetesFailure) {
        var server = configuration.server
        unsafe curl_slist_free_all(placeList)
        unsafe placeList = nil
        if let name = configuration.tlsServerName, let place = APIServerPlace(server) {
            server = "\(place.scheme)://\(name):\(place.port)\(place.path)"
            try unsafe append("::\(place.host):\(place.port)", to: &placeList)
            try unsafe setList(CURLOPT_CONNECT_TO, placeList)
        }
        try set(CURLOPT_URL, .text(server + request.target))
    }

    private func setTrust(_ configuration: KubernetesConfiguration) throws(KubernetesFailure) {
        if let authority = configuration.authority {
            try setBytes(CURLOPT_CAINFO_BLOB, authority)
            // libcurl would trust the system's authorities besides: none of them speaks for a cluster.
            try set(CURLOPT_CAPATH, .nothing)
        }
        if !configuration.verifiesServer {
            try set(CURLOPT_SSL_VERIFYPEER, .number(0))
            try set(CURLOPT_SSL_VERIFYHOST, .number(0))
        }
        if let certificate = configuration.identity.certificate, let key = configuration.identity.key {
            try setBytes(CURLOPT_SSLCERT_BLOB, certificate)
            try setBytes(CURLOPT_SSLKEY_BLOB, key)
        }
    }

    /// As bytes, not as a path: libcurl would keep what it once read of a file, and reuse connections that rest on it.
    private func setBytes(
        _ option: CURLoption,
        _ material: KubernetesConfiguration.Material
    ) throws(KubernetesFailure) {
        try set(option, .bytes(Array(try material.read(calls).utf8)))
    }

    private func setHeaders(
        _ request: KubernetesRequest,
        _ configuration: KubernetesConfiguration
    ) throws(KubernetesFailure) {
        unsafe curl_slist_free_all(headerList)
        unsafe headerList = nil
        var lines = ["Accept: application/json", "Expect:"]
        if request.body != nil { lines.append("Content-Type: \(request.contentType)") }
        if let token = try configuration.identity.token?.read(calls) {
            // A file ends with a line break; one within would begin another header.
            let word = token.filter { !$0.isWhitespace && !$0.isNewline }
            lines.append("Authorization: Bearer \(word)")
        }
        for line in lines { try unsafe append(line, to: &headerList) }
        try unsafe setList(CURLOPT_HTTPHEADER, headerList)
    }

    private func setBody(_ request: KubernetesRequest) throws(KubernetesFailure) {
        if request.method != "GET" { try set(CURLOPT_CUSTOMREQUEST, .text(request.method)) }
        guard let body = request.body else { return }
        try set(CURLOPT_POSTFIELDSIZE, .number(body.count))
        let code = unsafe body.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return CURLE_OK }
            // Copied by libcurl, after its size is known.
            return unsafe calls.set(
                handle,
                CURLOPT_COPYPOSTFIELDS,
                .pointer(UnsafeMutableRawPointer(mutating: start))
            )
        }
        try check(code)
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

    /// Whether the answer began since the last call.
    func takeBeginning() -> Bool {
        defer { hasNewAnswer = false }
        return hasNewAnswer
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

    // MARK: - What libcurl hands over

    /// - Returns: false where too much waits to be taken; libcurl then gives the transfer up.
    private func receive(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        guard received.count + bytes.count <= limit else { return false }
        unsafe received.append(contentsOf: bytes)
        return true
    }

    private func receiveHeader(_ bytes: UnsafeBufferPointer<UInt8>) {
        let line = unsafe String(decoding: bytes, as: UTF8.self)
        // A new status line begins a new answer: 100 Continue came before.
        if line.hasPrefix("HTTP/") { return headers.removeAll(keepingCapacity: true) }
        // An empty line ends the headers.
        if line.allSatisfy(\.isNewline), status >= 200 { hasNewAnswer = true }
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
