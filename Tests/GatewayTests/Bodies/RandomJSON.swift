// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport

/// Random JSON text, with the escapes, white space and nesting that parsers stumble over. Keys within one object are
/// unique, and at most one of two aliases is used. Numbers are never 0 or 1, which Foundation takes for booleans.
struct RandomJSON {
    var keys: [String]
    private static let aliases: [Set<String>] = [
        ["prompt_tokens", "input_tokens"], ["completion_tokens", "output_tokens"],
        ["prompt_tokens_details", "cache_read_input_tokens"], ["usage", "response", "message"],
    ]
    static let pieces = [
        "a", "Ω", "日本", "🙂", "\\n", "\\\"", "\\\\", "\\/", "\\u00e9", "\\ud83d\\ude00", "{", "}", "[", "]", ":", ",",
        " ",
        "usage", "\\u0022", "\\t",
    ]

    init(keys: [String]) { self.keys = keys }

    mutating func object(depth: Int, _ random: inout SplitMix64) -> String {
        var used: Set<String> = []
        var members: [String] = []
        for _ in 0..<Int.random(in: 1...6, using: &random) {
            guard let key = keys.randomElement(using: &random), !used.contains(key) else { continue }
            used.insert(key)
            for group in Self.aliases where group.contains(key) { used.formUnion(group) }
            members.append(
                "\(space(&random))\"\(key)\"\(space(&random)):\(space(&random))\(value(depth: depth - 1, &random))"
            )
        }
        return "{" + members.joined(separator: space(&random) + ",") + space(&random) + "}"
    }

    mutating func value(depth: Int, _ random: inout SplitMix64) -> String {
        switch Int.random(in: 0..<(depth > 0 ? 10 : 6), using: &random) {
        case 0: return ["true", "false", "null"].randomElement(using: &random) ?? "null"
        case 1...3: return String(Int.random(in: 2..<100_000, using: &random))
        case 4: return ["-3", "1.5", "12e-1", "-0.25E-2"].randomElement(using: &random) ?? "0"
        case 5: return "\"" + string(&random) + "\""
        case 6:
            let elements = (0..<Int.random(in: 0..<4, using: &random)).map { _ in value(depth: depth - 1, &random) }
            return "[" + elements.joined(separator: ",") + "]"
        default: return object(depth: depth, &random)
        }
    }

    /// The text between the quotes, escaped.
    func string(_ random: inout SplitMix64) -> String {
        (0..<Int.random(in: 0..<60, using: &random)).map { _ in Self.pieces.randomElement(using: &random) ?? "" }
            .joined()
    }

    func space(_ random: inout SplitMix64) -> String {
        ["", "", "", " ", "\n", "\t "].randomElement(using: &random) ?? ""
    }
}
