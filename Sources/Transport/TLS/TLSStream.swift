// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import COpenSSL
internal import Gateway

/// One connection's TLS: ciphertext in, plaintext out, and back. No socket. Owns one `SSL`.
///
/// OpenSSL reads what a caller lends, and writes where the socket's bytes wait: its own memory BIOs would copy both once more.
@safe final class TLSStream {
    enum State: Hashable {
        case handshaking, established
        /// The peer said that it sends no more.
        case ended
        case failed
    }

    private(set) var state = State.handshaking
    /// Ciphertext that waits for the socket.
    ///
    /// Not checked for overlapping accesses, like what is lent: only OpenSSL's calls back change it, and nobody reads meanwhile.
    @exclusivity(unchecked) private var queue = ByteQueue(keptWhenEmpty: 64 << 10)
    /// Ciphertext that the caller of `receive` lends, as far as it is not read yet.
    @exclusivity(unchecked) private var lent: UnsafeRawBufferPointer
    /// Why the stream failed.
    private(set) var failure: TLSError?

    private let clientNames: [String]?
    private let ssl: OpaquePointer

    init(_ context: TLSContext) throws(TLSError) {
        clientNames = context.clientNames
        unsafe lent = UnsafeRawBufferPointer(start: nil, count: 0)
        guard let ssl = unsafe SSL_new(context.raw) else { throw .last("SSL_new") }
        guard let bio = unsafe StreamBIO.make() else {
            unsafe SSL_free(ssl)
            throw .last("BIO_new")
        }
        // One for both directions, owned by `ssl`.
        unsafe SSL_set_bio(ssl, bio, bio)
        unsafe SSL_set_accept_state(ssl)
        unsafe self.ssl = ssl
        unsafe StreamBIO.setOwner(bio, self)
    }

    deinit { unsafe SSL_free(ssl) }

    /// Takes ciphertext, and lends the plaintext in it to `deliver`, in pieces of up to `buffer`'s size.
    func receive<Failure: Error>(
        _ ciphertext: UnsafeRawBufferPointer,
        buffer: UnsafeMutableRawBufferPointer,
        deliver: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        guard state == .handshaking || state == .established else { return }
        // OpenSSL reads all of it, and keeps the start of a record that is not whole.
        unsafe lent = ciphertext
        defer { unsafe lent = UnsafeRawBufferPointer(start: nil, count: 0) }
        var isMore = true
        while isMore {
            let (count, more) = unsafe decrypt(into: buffer)
            isMore = more
            if count > 0 { try unsafe deliver(UnsafeRawBufferPointer(rebasing: buffer[..<count])) }
        }
    }

    /// Encrypts all of `plaintext`: the queue never makes OpenSSL wait, and partial writes are not enabled.
    func send(_ plaintext: UnsafeRawBufferPointer) {
        guard state == .established, plaintext.count > 0 else { return }
        var written = 0
        guard unsafe SSL_write_ex(ssl, plaintext.baseAddress, plaintext.count, &written) == 1,
            written == plaintext.count
        else { return fail("SSL_write") }
    }

    /// Lends the ciphertext that waits for the socket.
    var outgoing: UnsafeRawBufferPointer { unsafe queue.bytes }

    func sent(_ count: Int) { unsafe queue.removeFirst(count) }

    /// Says goodbye to the peer (RFC 8446 section 6.1).
    func close() {
        guard state == .established || state == .ended else { return }
        ERR_clear_error()
        unsafe SSL_shutdown(ssl)
        ERR_clear_error()
    }

    /// Fills the buffer from as many records as fit.
    private func decrypt(into buffer: UnsafeMutableRawBufferPointer) -> (count: Int, isMore: Bool) {
        var count = 0
        while count < buffer.count {
            // SSL_get_error looks at the thread's errors too. Once the handshake is over, whoever fails leaves none.
            if state == .handshaking { ERR_clear_error() }
            var taken = 0
            let room = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[count...])
            let result = unsafe SSL_read_ex(ssl, room.baseAddress, room.count, &taken)
            // The handshake is a part of the first reads.
            if state == .handshaking, unsafe SSL_is_init_finished(ssl) == 1 { finishHandshake() }
            guard result == 1, state == .established else {
                if result != 1 { settle(unsafe SSL_get_error(ssl, result)) }
                return (count, false)
            }
            count += taken
            // Nothing is left to read: to be told so would cost another call.
            if unsafe lent.isEmpty && SSL_has_pending(ssl) == 0 { return (count, false) }
        }
        return (count, true)
    }

    private func settle(_ error: CInt) {
        switch error {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: break
        case SSL_ERROR_ZERO_RETURN: if state == .established { state = .ended }
        default: fail(state == .handshaking ? "TLS handshake" : "TLS")
        }
    }

    private func finishHandshake() {
        var name: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        unsafe SSL_get0_alpn_selected(ssl, &name, &count)
        if let clientNames, !clientNames.isEmpty {
            let name = clientName
            guard let name, clientNames.contains(name) else {
                state = .failed
                failure = TLSError("the client's certificate is that of \(name ?? "nobody"), which is not served")
                return
            }
        }
        // Without ALPN the peer would speak something else, or not know what we speak (RFC 9113 section 3.3).
        if unsafe UnsafeBufferPointer(start: name, count: Int(count)).elementsEqual("h2".utf8) {
            state = .established
        } else {
            state = .failed
            failure = TLSError("the peer did not offer h2 by ALPN")
        }
    }

    /// The common name in the client's certificate, which OpenSSL has verified.
    private var clientName: String? {
        guard let certificate = unsafe SSL_get1_peer_certificate(ssl) else { return nil }
        defer { unsafe X509_free(certificate) }
        // ub-common-name is 64 (RFC 5280, appendix A); one byte for the end.
        var text = [CChar](repeating: 0, count: 65)
        let subject = unsafe X509_get_subject_name(certificate)
        let count = unsafe X509_NAME_get_text_by_NID(subject, NID_commonName, &text, CInt(text.count))
        guard count > 0 else { return nil }
        return String(decoding: text.prefix(Int(count)).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private func fail(_ what: String) {
        failure = .last(what)
        state = .failed
    }

    // MARK: What OpenSSL asks

    fileprivate func readLent(into room: UnsafeMutableRawBufferPointer) -> Int {
        let part = unsafe UnsafeRawBufferPointer(rebasing: lent.prefix(room.count))
        unsafe room.copyMemory(from: part)
        unsafe lent = UnsafeRawBufferPointer(rebasing: lent[part.count...])
        return part.count
    }

    fileprivate func queue(_ bytes: UnsafeRawBufferPointer) { unsafe queue.append(bytes) }
}

/// The kind of BIO that a stream's `SSL` reads and writes: it asks the stream. Formed outside of any actor, and captures nothing.
private enum StreamBIO {
    /// Made once; never changed or freed.
    nonisolated(unsafe) private static let method: OpaquePointer? = {
        guard let method = unsafe BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stream") else { return nil }
        unsafe BIO_meth_set_read(method) { bio, bytes, count in
            unsafe BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY)
            let room = unsafe UnsafeMutableRawBufferPointer(start: bytes, count: Int(max(0, count)))
            let taken = unsafe StreamBIO.withOwner(bio) { unsafe $0.readLent(into: room) }
            if taken == 0 { unsafe BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY) }
            return taken > 0 ? CInt(taken) : -1
        }
        unsafe BIO_meth_set_write(method) { bio, bytes, count in
            let bytes = unsafe UnsafeRawBufferPointer(start: bytes, count: Int(max(0, count)))
            unsafe StreamBIO.withOwner(bio) { unsafe $0.queue(bytes) }
            return count
        }
        // Of all that can be asked, a flush alone needs an answer.
        unsafe BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
        return unsafe method
    }()

    static func make() -> OpaquePointer? { unsafe method.flatMap { unsafe BIO_new($0) } }

    /// The stream owns the `SSL`, which owns the BIO: its pointer to the stream is good.
    static func setOwner(_ bio: OpaquePointer, _ stream: TLSStream) {
        unsafe BIO_set_data(bio, Unmanaged.passUnretained(stream).toOpaque())
        unsafe BIO_set_init(bio, 1)
    }

    static func withOwner<Result>(_ bio: OpaquePointer?, _ body: (TLSStream) -> Result) -> Result {
        guard let owner = unsafe BIO_get_data(bio) else { preconditionFailure("a BIO without its stream") }
        return unsafe Unmanaged<TLSStream>.fromOpaque(owner)._withUnsafeGuaranteedRef(body)
    }
}
