// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One series of a metrics page: an exact name, labels that it must have, and where the number is.
package struct MetricSelector: Sendable, Hashable {
    package struct Label: Sendable, Hashable {
        package var name: String
        package var value: String

        package init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    package enum Source: Sendable, Hashable {
        /// The sample's value.
        case value
        /// The number in a label, as in `cache_config_info{block_size="16"} 1`.
        case label(String)
    }

    package var name: String
    package var labels: [Label]
    package var source: Source

    package init(_ name: String, _ labels: [Label] = [], source: Source = .value) {
        self.name = name
        self.labels = labels
        self.source = source
    }

    /// Reads `name` or `name{label=value,other="value"}`, the form of the reference picker's engine settings.
    package init?(parsing text: String) {
        let open = text.firstIndex(of: "{") ?? text.endIndex
        let name = String(text[..<open])
        guard Self.isName(name) else { return nil }
        self.init(name)
        guard open < text.endIndex else { return }
        guard text.hasSuffix("}") else { return nil }
        let inner = text[text.index(after: open)...].dropLast()
        for part in inner.split(separator: ",", omittingEmptySubsequences: false) {
            guard let equals = part.firstIndex(of: "=") else { return nil }
            let label = part[..<equals].drop { $0 == " " }
            var value = part[part.index(after: equals)...]
            if value.count >= 2, value.hasPrefix("\""), value.hasSuffix("\"") { value = value.dropFirst().dropLast() }
            guard Self.isName(String(label)), !value.isEmpty, !value.contains("\"") else { return nil }
            labels.append(Label(String(label), String(value)))
        }
    }

    private static func isName(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 200
            && text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: ":"):
                    true
                default: false
                }
            }
    }
}
