// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import COpenSSL

/// A certificate that vouches for itself: encryption without identity, as clusters' gateways accept from a picker.
@safe final class SelfSignedCertificate {
    /// Long enough that no process outlives it; a new one is made at each start.
    private static let secondsValid = 10 * 365 * 24 * 3600
    /// Peers' clocks may be behind ours.
    private static let secondsBackdated = 3600
    private static let organization = "epp-pd"

    let certificate: OpaquePointer
    let key: OpaquePointer

    /// - Parameter hosts: DNS names and IP addresses for the subject's alternative names.
    /// - Throws: where OpenSSL has no memory or no random numbers.
    init(hosts: [String]) throws(TLSError) {
        guard let key = unsafe cssl_new_p256_key() else { throw .last("no key could be made") }
        guard let certificate = unsafe X509_new() else {
            unsafe EVP_PKEY_free(key)
            throw .last("X509_new")
        }
        unsafe self.key = key
        unsafe self.certificate = certificate
        try fill(hosts)
    }

    deinit {
        unsafe X509_free(certificate)
        unsafe EVP_PKEY_free(key)
    }

    private func fill(_ hosts: [String]) throws(TLSError) {
        var serial: UInt64 = 0
        let random = unsafe withUnsafeMutableBytes(of: &serial) { bytes in
            unsafe RAND_bytes(bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), CInt(bytes.count))
        }
        guard random == 1 else { throw .last("RAND_bytes") }
        // Version 3, counted from 0; a serial number is positive (RFC 5280 section 4.1.2.2).
        unsafe X509_set_version(certificate, 2)
        unsafe ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1 | 1)
        unsafe X509_gmtime_adj(X509_getm_notBefore(certificate), -Self.secondsBackdated)
        unsafe X509_gmtime_adj(X509_getm_notAfter(certificate), Self.secondsValid)
        let name = unsafe X509_get_subject_name(certificate)
        for field in ["O", "CN"] {
            unsafe X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC, Self.organization, -1, -1, 0)
        }
        unsafe X509_set_issuer_name(certificate, name)
        guard unsafe X509_set_pubkey(certificate, key) == 1 else { throw .last("X509_set_pubkey") }
        try extend(NID_basic_constraints, "critical,CA:FALSE")
        try extend(NID_ext_key_usage, "serverAuth")
        let names = hosts.map { ($0.contains(":") || Self.isIPv4($0) ? "IP:" : "DNS:") + $0 }
        if !names.isEmpty { try extend(NID_subject_alt_name, names.joined(separator: ",")) }
        guard unsafe X509_sign(certificate, key, EVP_sha256()) > 0 else { throw .last("X509_sign") }
    }

    private func extend(_ kind: Int32, _ value: String) throws(TLSError) {
        guard let field = unsafe X509V3_EXT_conf_nid(nil, nil, kind, value) else { throw .last("extension \(value)") }
        defer { unsafe X509_EXTENSION_free(field) }
        guard unsafe X509_add_ext(certificate, field, -1) == 1 else { throw .last("X509_add_ext") }
    }

    private static func isIPv4(_ host: String) -> Bool {
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
    }
}
