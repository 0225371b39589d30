// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A label selector as Kubernetes writes it in a query: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
struct LabelSelector: Sendable, Hashable {
    enum Requirement: Sendable, Hashable {
        case among(String, [String])
        case notAmong(String, [String])
        case exists(String)
        case absent(String)
    }

    /// A selector of an HPA has a few.
    static let limit = 64

    private(set) var requirements: [Requirement] = []

    /// nil where the text is no selector.
    init?(_ text: String) {
        var rest = text[...]
        while true {
            rest = rest.drop { $0 == " " }
            guard !rest.isEmpty else { return }
            guard requirements.count < Self.limit, let requirement = Self.take(&rest) else { return nil }
            requirements.append(requirement)
            rest = rest.drop { $0 == " " }
            if rest.isEmpty { return }
            guard rest.removeFirst() == "," else { return nil }
        }
    }

    func matches(_ labels: [String: String]) -> Bool {
        requirements.allSatisfy { requirement in
            switch requirement {
            case .among(let key, let values): labels[key].map(values.contains) ?? false
            case .notAmong(let key, let values): labels[key].map { !values.contains($0) } ?? true
            case .exists(let key): labels[key] != nil
            case .absent(let key): labels[key] == nil
            }
        }
    }

    /// Labels that can have one value only.
    var fixed: [String: String] {
        var result: [String: String] = [:]
        for case .among(let key, let values) in requirements where values.count == 1 { result[key] = values[0] }
        return result
    }

    private static func take(_ rest: inout Substring) -> Requirement? {
        if rest.first == "!" {
            rest.removeFirst()
            return word(&rest).map { .absent($0) }
        }
        guard let key = word(&rest) else { return nil }
        rest = rest.drop { $0 == " " }
        for (sign, isEqual) in [("!=", false), ("==", true), ("=", true)] where rest.hasPrefix(sign) {
            rest.removeFirst(sign.count)
            rest = rest.drop { $0 == " " }
            let value = word(&rest) ?? ""
            return isEqual ? .among(key, [value]) : .notAmong(key, [value])
        }
        for (name, isIn) in [("in ", true), ("in(", true), ("notin ", false), ("notin(", false)]
        where rest.hasPrefix(name) {
            rest.removeFirst(name.count - 1)
            guard let values = list(&rest) else { return nil }
            return isIn ? .among(key, values) : .notAmong(key, values)
        }
        return .exists(key)
    }

    private static func list(_ rest: inout Substring) -> [String]? {
        rest = rest.drop { $0 == " " }
        guard rest.first == "(", let end = rest.firstIndex(of: ")") else { return nil }
        let inner = rest[rest.index(after: rest.startIndex)..<end]
        rest = rest[rest.index(after: end)...]
        let values = inner.split(separator: ",", omittingEmptySubsequences: false).map { part in
            String(part.drop { $0 == " " }.prefix { $0 != " " })
        }
        return values.count <= limit ? values : nil
    }

    /// Keys and values: letters, digits and `-_./` (Kubernetes, "Labels and Selectors"); `:` for the names of models.
    private static func word(_ rest: inout Substring) -> String? {
        let word = rest.prefix { $0.isLetter || $0.isNumber || "-_./:".contains($0) }
        rest = rest[word.endIndex...]
        return word.isEmpty ? nil : String(word)
    }
}
