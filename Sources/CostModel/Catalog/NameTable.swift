// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Canonical names by every name under which something is known.
struct NameTable: Sendable {
    private var exact: [String: String] = [:]
    /// Aliases that end in `*`, without it; the longest match wins.
    private var prefixes: [(prefix: String, name: String)] = []

    /// Later entries replace earlier ones.
    mutating func insert(_ alias: String, for name: String) {
        let key = NameTable.key(alias)
        if key.hasSuffix("*") {
            let prefix = String(key.dropLast())
            prefixes.removeAll { $0.prefix == prefix }
            prefixes.append((prefix, name))
            prefixes.sort { ($1.prefix.utf8.count, $0.prefix) < ($0.prefix.utf8.count, $1.prefix) }
        } else {
            exact[key] = name
        }
    }

    func canonical(_ name: String) -> String? {
        let key = NameTable.key(name)
        return exact[key] ?? prefixes.first { key.hasPrefix($0.prefix) }?.name
    }

    /// Lower case, with `-` for `_`, `/`, `:` (a tag, as in `llama3.3:70b`) and blanks, single, none at the ends.
    static func key(_ name: String) -> String {
        var result: [UInt8] = []
        for byte in name.lowercased().utf8 {
            let isDash = byte == UInt8(ascii: "_") || byte == UInt8(ascii: " ") || byte == UInt8(ascii: "-")
            if isDash || byte == UInt8(ascii: "/") || byte == UInt8(ascii: ":") {
                if result.last != UInt8(ascii: "-"), !result.isEmpty { result.append(UInt8(ascii: "-")) }
            } else {
                result.append(byte)
            }
        }
        if result.last == UInt8(ascii: "-") { result.removeLast() }
        return String(decoding: result, as: UTF8.self)
    }
}
