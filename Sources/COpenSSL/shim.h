// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

// What OpenSSL has as a macro or a variadic function is not imported into Swift.

static inline int cssl_set_min_version(SSL_CTX *context, int version) {
    return SSL_CTX_set_min_proto_version(context, version);
}

/// No renegotiation, no compression, our order of ciphers; no cache of sessions, since peers stay connected.
static inline void cssl_set_server_defaults(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    // Idle connections keep no record buffers.
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
}

static inline EVP_PKEY *cssl_new_p256_key(void) { return EVP_EC_gen("P-256"); }

/// For clients in tests: the name sent in the handshake.
static inline int cssl_set_host_name(SSL *ssl, const char *name) { return (int)SSL_set_tlsext_host_name(ssl, name); }
