// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CCurl

/// libcurl counts its users: one initialisation for the life of the process.
package enum CurlLibrary {
    package static let isReady: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK
}

extension FetchFailure {
    /// Why libcurl brought no answer.
    init(_ code: CURLcode) {
        self =
            switch code {
            case CURLE_COULDNT_CONNECT: .refused
            case CURLE_OPERATION_TIMEDOUT: .timedOut
            case CURLE_WRITE_ERROR: .tooLarge
            case CURLE_GOT_NOTHING, CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_PARTIAL_FILE: .connectionLost
            case CURLE_UNSUPPORTED_PROTOCOL, CURLE_WEIRD_SERVER_REPLY, CURLE_HTTP_RETURNED_ERROR,
                CURLE_BAD_CONTENT_ENCODING:
                .garbage
            default: .client
            }
    }
}
