// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// One request to the API server.
package struct KubernetesRequest: Sendable, Hashable {
    package struct Parameter: Sendable, Hashable {
        package var name: String
        package var value: String

        package init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    package var method: String
    /// Begins with a slash.
    package var path: String
    package var query: [Parameter]
    package var body: [UInt8]?
    package var contentType: String
    /// From the start to the end of the answer.
    package var timeout: Seconds

    /// What the server may take to answer anything but a watch.
    package static let usualTimeout = Seconds(10)

    package init(
        method: String = "GET",
        path: String,
        query: [Parameter] = [],
        body: [UInt8]? = nil,
        contentType: String = "application/json",
        timeout: Seconds = usualTimeout
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.body = body
        self.contentType = contentType
        self.timeout = timeout
    }

    /// The path with its query, escaped as RFC 3986 asks.
    package var target: String {
        guard !query.isEmpty else { return path }
        return path + "?"
            + query.map { "\(Self.escaped($0.name))=\(Self.escaped($0.value))" }.joined(separator: "&")
    }

    /// All but RFC 3986's unreserved characters as `%XX`.
    static func escaped(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                result.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                result += byte < 16 ? "%0\(digits)" : "%\(digits)"
            }
        }
        return result
    }
}

/// What the API server answered.
package struct KubernetesResponse: Sendable, Hashable {
    package struct Header: Sendable, Hashable {
        /// In lower case.
        package var name: String
        package var value: String

        package init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    package var status: Int
    package var headers: [Header]
    package var body: [UInt8]

    package init(status: Int, headers: [Header] = [], body: [UInt8] = []) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    package func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }

    package var isSuccess: Bool { (200..<300).contains(status) }

    /// What a Status object in the body says, where there is one.
    package var message: String { APIStatus.message(in: body) }
}
