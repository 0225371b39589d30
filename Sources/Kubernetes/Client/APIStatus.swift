// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FoundationEssentials

/// Kubernetes' own description of an error: the body of answers that are no success, and of a watch's ERROR event.
struct APIStatus: Decodable, Sendable, Hashable {
    var message: String?
    var reason: String?
    var code: Int?

    /// As much as a log line shows.
    private static let longestMessage = 512

    static func message(in body: [UInt8]) -> String {
        guard let status = try? JSONDecoder().decode(APIStatus.self, from: Data(body)) else { return "" }
        return status.text
    }

    /// Whether a 404 with that body says that there is no such kind. For paths that no group serves the server writes a line of
    /// text, else a Status.
    static func saysAbsent(_ body: [UInt8]) -> Bool {
        if body.starts(with: Array("404 page not found".utf8)) { return true }
        guard let status = try? JSONDecoder().decode(APIStatus.self, from: Data(body)) else { return false }
        return status.reason == "NotFound" || status.code == 404
    }

    var text: String { String((message ?? reason ?? "").prefix(Self.longestMessage)) }
}
