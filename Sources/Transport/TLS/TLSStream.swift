// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import COpenSSL
internal import Gateway

/// One connection's TLS: ciphertext in, plaintext out, and back. No socket. Owns one `SSL` with two memory BIOs.
@safe final class TLSStream {
    enum State: Hashable {
        case handshaking, established
        /// The peer said that it sends no more.
        case ended
        case failed
    }

    private(set) var state = State.handshaking
    /// Ciphertext that waits for the socket.
    private(set) var outgoing = ByteQueue(keptWhenEmpty: 64 << 10)
    /// Why the stream failed.
    private(set) var failure: TLSError?

    private let clientNames: [String]?
    private let ssl: OpaquePointer
    /// Owned by `ssl`.
    private let incomingBIO: OpaquePointer
    private let outgoingBIO: OpaquePointer

    init(_ context: TLSContext) throws(TLSError) {
        clientNames = context.clientNames
        guard let ssl = unsafe SSL_new(context.raw) else { throw .last("SSL_new") }
        guard let incoming = unsafe BIO_new(BIO_s_mem()) else {
            unsafe SSL_free(ssl)
            throw .last("BIO_new")
        }
        guard let outgoing = unsafe BIO_new(BIO_s_mem()) else {
            unsafe BIO_free(incoming)
            unsafe SSL_free(ssl)
            throw .last("BIO_new")
        }
        unsafe SSL_set_bio(ssl, incoming, outgoing)
        unsafe SSL_set_accept_state(ssl)
        unsafe self.ssl = ssl
        unsafe incomingBIO = incoming
        unsafe outgoingBIO = outgoing
    }

    deinit { unsafe SSL_free(ssl) }

    /// Takes ciphertext, and lends the plaintext in it to `deliver`, in pieces of up to `buffer`'s size.
    func receive<Failure: Error>(
        _ ciphertext: UnsafeRawBufferPointer,
        buffer: UnsafeMutableRawBufferPointer,
        deliver: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        guard state == .handshaking || state == .established else { return }
        // A memory BIO takes all that there is memory for.
        guard unsafe BIO_write(incomingBIO, ciphertext.baseAddress, CInt(ciphertext.count)) == ciphertext.count else {
            return fail("BIO_write")
        }
        var isMore = true
        while isMore {
            let (count, more) = unsafe decrypt(into: buffer)
            isMore = more
            if count > 0 { try unsafe deliver(UnsafeRawBufferPointer(rebasing: buffer[..<count])) }
        }
        // Handshake messages, alerts and key updates.
        collectOutgoing()
    }

    /// Encrypts all of `plaintext`: a memory BIO never makes OpenSSL wait, and partial writes are not enabled.
    func send(_ plaintext: UnsafeRawBufferPointer) {
        guard state == .established, plaintext.count > 0 else { return }
        ERR_clear_error()
        var written = 0
        guard unsafe SSL_write_ex(ssl, plaintext.baseAddress, plaintext.count, &written) == 1,
            written == plaintext.count
        else { return fail("SSL_write") }
        collectOutgoing()
    }

    func sent(_ count: Int) { outgoing.removeFirst(count) }

    /// Says goodbye to the peer (RFC 8446 section 6.1).
    func close() {
        guard state == .established || state == .ended else { return }
        ERR_clear_error()
        unsafe SSL_shutdown(ssl)
        collectOutgoing()
        ERR_clear_error()
    }

    /// Fills the buffer from as many records as fit.
    private func decrypt(into buffer: UnsafeMutableRawBufferPointer) -> (count: Int, isMore: Bool) {
        var count = 0
        while count < buffer.count {
            ERR_clear_error()
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

    private func collectOutgoing() {
        let waiting = unsafe cssl_pending(outgoingBIO)
        guard waiting > 0 else { return }
        let bio = unsafe outgoingBIO
        _ = unsafe outgoing.append(upTo: waiting) { room in
            unsafe Int(BIO_read(bio, room.baseAddress, CInt(clamping: room.count)))
        }
    }
}
