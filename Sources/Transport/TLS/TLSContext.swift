// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import COpenSSL

/// Why TLS could not be set up, or a certificate not be read.
package struct TLSError: Error, Sendable, Hashable, CustomStringConvertible {
    package var description: String

    package init(_ description: String) { self.description = description }

    /// What OpenSSL says about the call that just failed. Empties its queue of errors.
    static func last(_ what: String) -> TLSError {
        let code = ERR_get_error()
        ERR_clear_error()
        guard code != 0, let reason = unsafe ERR_reason_error_string(code) else { return TLSError(what) }
        return unsafe TLSError("\(what): \(String(cString: reason))")
    }
}

/// The oldest version of TLS that is spoken.
package enum TLSVersion: String, Sendable, Hashable, CaseIterable {
    case v1_2 = "1.2"
    case v1_3 = "1.3"

    var code: Int32 {
        switch self {
        case .v1_2: TLS1_2_VERSION
        case .v1_3: TLS1_3_VERSION
        }
    }
}

/// A certificate with its key, ready to serve. Owns one `SSL_CTX`.
///
/// `@unchecked Sendable`: it is not changed after `init`, and OpenSSL counts references to it atomically.
@safe final class TLSContext: @unchecked Sendable {
    let raw: OpaquePointer

    /// ALPN's name of HTTP/2 with its length before it (RFC 7301 section 3.1, RFC 9113 section 3.2).
    private static let h2: StaticString = "\u{2}h2"

    /// AES-128 first: as safe here, and cheaper than OpenSSL's default order. TLS 1.2: what HTTP/2 allows
    /// (RFC 9113 section 9.2.2).
    private static let suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    private static let olderCiphers = "ECDHE+AESGCM:ECDHE+CHACHA20"

    /// Common names of clients that are served. nil: clients show no certificate.
    let clientNames: [String]?

    private init(minimumVersion: TLSVersion, clients: TLSClients? = nil) throws(TLSError) {
        guard let raw = unsafe SSL_CTX_new(TLS_server_method()) else { throw .last("SSL_CTX_new") }
        unsafe self.raw = raw
        clientNames = clients?.names
        unsafe cssl_set_server_defaults(raw)
        guard unsafe cssl_set_min_version(raw, minimumVersion.code) == 1 else { throw .last("minimum TLS version") }
        guard unsafe SSL_CTX_set_ciphersuites(raw, Self.suites) == 1,
            unsafe SSL_CTX_set_cipher_list(raw, Self.olderCiphers) == 1
        else { throw .last("cipher suites") }
        unsafe SSL_CTX_set_alpn_select_cb(
            raw,
            { _, chosen, chosenCount, offered, offeredCount, _ in
                var match: UnsafeMutablePointer<UInt8>?
                let result = unsafe SSL_select_next_proto(
                    &match,
                    chosenCount,
                    TLSContext.h2.utf8Start,
                    UInt32(TLSContext.h2.utf8CodeUnitCount),
                    offered,
                    offeredCount
                )
                guard result == OPENSSL_NPN_NEGOTIATED else { return SSL_TLSEXT_ERR_ALERT_FATAL }
                unsafe chosen?.pointee = UnsafePointer(match)
                return SSL_TLSEXT_ERR_OK
            },
            nil
        )
        if let clients { try ask(clients.authorityFile) }
    }

    deinit { unsafe SSL_CTX_free(raw) }

    /// Serves only clients that show a certificate of the authority.
    private func ask(_ authorityFile: String) throws(TLSError) {
        guard unsafe SSL_CTX_load_verify_file(raw, authorityFile) == 1,
            let names = unsafe SSL_load_client_CA_file(authorityFile)
        else { throw .last(authorityFile) }
        // The names tell a client which of its certificates is wanted; the context owns them from here.
        unsafe SSL_CTX_set_client_CA_list(raw, names)
        unsafe SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
    }

    /// Reads a certificate chain and its key from PEM files.
    convenience init(
        certificate: String,
        key: String,
        minimumVersion: TLSVersion,
        clients: TLSClients? = nil
    ) throws(TLSError) {
        try self.init(minimumVersion: minimumVersion, clients: clients)
        guard unsafe SSL_CTX_use_certificate_chain_file(raw, certificate) == 1 else { throw .last(certificate) }
        guard unsafe SSL_CTX_use_PrivateKey_file(raw, key, SSL_FILETYPE_PEM) == 1 else { throw .last(key) }
        guard unsafe SSL_CTX_check_private_key(raw) == 1 else { throw .last("\(key) does not fit \(certificate)") }
    }

    /// Makes a certificate of its own, for peers that do not verify it.
    convenience init(
        selfSignedFor hosts: [String],
        minimumVersion: TLSVersion,
        clients: TLSClients? = nil
    ) throws(TLSError) {
        try self.init(minimumVersion: minimumVersion, clients: clients)
        let made = try SelfSignedCertificate(hosts: hosts)
        guard unsafe SSL_CTX_use_certificate(raw, made.certificate) == 1 else { throw .last("SSL_CTX_use_certificate") }
        guard unsafe SSL_CTX_use_PrivateKey(raw, made.key) == 1 else { throw .last("SSL_CTX_use_PrivateKey") }
    }
}
