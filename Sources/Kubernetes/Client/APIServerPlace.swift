// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The parts of a server's URL.
struct APIServerPlace: Sendable, Hashable {
    var scheme: String
    /// With brackets round an IPv6 literal.
    var host: String
    var port: Int
    /// Empty, or begins with a slash: behind proxies the API has a path of its own.
    var path: String

    /// - Returns: nil where the text is no URL of a server.
    init?(_ url: String) {
        guard let mark = url.firstRange(of: "://") else { return nil }
        scheme = String(url[..<mark.lowerBound])
        let rest = url[mark.upperBound...]
        let authority = rest.prefix { $0 != "/" }
        path = String(rest[authority.endIndex...])
        let afterHost = authority.lastIndex(of: "]").map { authority.index(after: $0) } ?? authority.startIndex
        if let colon = authority[afterHost...].lastIndex(of: ":") {
            guard let number = UInt16(authority[authority.index(after: colon)...]) else { return nil }
            host = String(authority[..<colon])
            port = Int(number)
        } else {
            host = String(authority)
            port = scheme == "http" ? 80 : 443
        }
        guard !host.isEmpty else { return nil }
    }
}
