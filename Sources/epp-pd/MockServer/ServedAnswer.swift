// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FlyingFox
import Foundation

/// Whole HTTP answers of a mock server, in vLLM's words.
enum ServedAnswer {
    static func json(_ text: String, status: Int = 200) -> HTTPResponse {
        HTTPResponse(
            statusCode: HTTPStatusCode(status, phrase: phrase(status)),
            headers: [.contentType: "application/json"],
            body: Data(text.utf8)
        )
    }

    static func error(_ status: Int, type: String, message: String, parameter: String? = nil) -> HTTPResponse {
        let param = parameter.map(JSONText.quoted) ?? "null"
        return json(
            "{\"error\":{\"message\":\(JSONText.quoted(message)),\"type\":\(JSONText.quoted(type)),"
                + "\"param\":\(param),\"code\":\(status)}}",
            status: status
        )
    }

    static let notFound = json("{\"detail\":\"Not Found\"}", status: 404)

    static func passedOn(_ status: Int, contentType: String?, body: Data) -> HTTPResponse {
        HTTPResponse(
            statusCode: HTTPStatusCode(status, phrase: phrase(status)),
            headers: [.contentType: contentType ?? "application/json"],
            body: body
        )
    }

    private static func phrase(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 400: "Bad Request"
        case 404: "Not Found"
        case 413: "Payload Too Large"
        case 500: "Internal Server Error"
        case 502: "Bad Gateway"
        case 503: "Service Unavailable"
        default: "Status \(status)"
        }
    }
}

enum JSONText {
    /// A JSON string literal.
    static func quoted(_ text: String) -> String {
        guard let data = try? JSONEncoder().encode(text) else { return "\"\"" }
        return String(decoding: data, as: UTF8.self)
    }
}
