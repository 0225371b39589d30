// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// An error in the shape that OpenAI's API and model servers give theirs: `{"error":{"message","type","param","code"}}`.
package struct APIError: Error, Sendable, Hashable {
    package var status: Int
    package var message: String
    /// The part of the request that is wrong, or nil.
    package var param: String?

    package init(status: Int, message: String, param: String? = nil) {
        self.status = status
        self.message = message
        self.param = param
    }

    /// As vLLM names them.
    private var type: String {
        switch status {
        case 400: "BadRequestError"
        case 404: "NotFoundError"
        case 408: "RequestTimeoutError"
        case 413: "RequestTooLargeError"
        case 429: "TooManyRequestsError"
        case 503: "ServiceUnavailableError"
        case 504: "GatewayTimeoutError"
        default: "InternalServerError"
        }
    }

    package var body: String {
        let param = param.map(Self.quoted) ?? "null"
        return "{\"error\":{\"message\":\(Self.quoted(message)),\"type\":\(Self.quoted(type)),"
            + "\"param\":\(param),\"code\":\(status)}}"
    }

    /// The answer to the client.
    ///
    /// - headers: sent besides the content type.
    /// - details: what Envoy logs as RESPONSE_CODE_DETAILS; without spaces.
    package func answer(headers: [ImmediateAnswer.Header] = [], details: String) -> ImmediateAnswer {
        ImmediateAnswer(
            status: status,
            headers: [ImmediateAnswer.Header("content-type", "application/json")] + headers,
            body: body,
            details: details
        )
    }

    /// A JSON string: RFC 8259, section 7.
    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case "\u{0}"..."\u{1F}":
                let hex = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
