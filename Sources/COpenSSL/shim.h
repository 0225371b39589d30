// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#include <openssl/ssl.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/evp.h>
