// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Fleet

/// Pages that `validate --live` fetches, one at a time on the caller's thread.
enum LivePage {
    /// An Envoy's whole configuration has megabytes, a metrics page tens of kilobytes.
    static let limit = 64 << 20

    struct Answer {
        var status: Int
        var body: [UInt8]
    }

    static func get(_ url: String, timeout: Seconds) -> Result<Answer, FetchFailure> {
        guard let transfer = StreamedRequest() else { return .failure(.client) }
        var body: [UInt8] = []
        let result = transfer.get(url: url, timeout: timeout) { bytes in
            guard bytes.count <= limit - body.count else { return false }
            for index in bytes.indices { body.append(bytes[index]) }
            return true
        }
        return result.map { Answer(status: $0, body: body) }
    }

    /// `http://ADDRESS:PORT/PATH`, with brackets around an IPv6 literal.
    static func url(_ address: String, _ port: UInt16, _ path: String) -> String {
        let host = address.contains(":") ? "[\(address)]" : address
        return "http://\(host):\(port)" + (path.hasPrefix("/") ? path : "/" + path)
    }

    /// What a person can make of a failure.
    static func text(of failure: FetchFailure) -> String {
        switch failure {
        case .refused: "the connection is refused"
        case .timedOut: "no answer in time"
        case .connectionLost: "the connection broke"
        case .tooLarge: "the answer is too large"
        case .status(let status): "answers \(status)"
        case .garbage: "answers what was not asked for"
        case .client: "cannot be asked: a wrong address, or no memory"
        }
    }
}
