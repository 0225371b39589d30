// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
internal import Yams

/// A mapping that is being read. Remembers which keys were asked for, so that the others can be called unknown.
package final class DocumentObject {
    private let place: DocumentValue
    private var values: [String: Node] = [:]
    private var keys: [(name: String, node: Node)] = []
    private var known: [String] = []

    init(mapping: Node.Mapping, at place: DocumentValue) {
        self.place = place
        for (key, value) in mapping {
            guard case .scalar(let scalar) = key else {
                DocumentValue(node: key, keyPath: place.keyPath, errors: place.errors).reject("keys must be strings")
                continue
            }
            keys.append((scalar.string, key))
            values[scalar.string] = value
        }
    }

    package var keyPath: String { place.keyPath }

    /// The value of a key, nil where it is absent or null.
    package func optional(_ key: String) -> DocumentValue? {
        if !known.contains(key) { known.append(key) }
        guard let node = values[key] else { return nil }
        let value = DocumentValue(node: node, keyPath: path(of: key), errors: place.errors)
        return value.isNull ? nil : value
    }

    /// The value of a key that must be there. Records an error and returns nil where it is absent.
    package func required(_ key: String) -> DocumentValue? {
        if let value = optional(key) { return value }
        place.errors.add(
            line: place.node.mark?.line,
            column: place.node.mark?.column,
            keyPath: path(of: key),
            message: "is required"
        )
        return nil
    }

    package func string(_ key: String, default value: String, maxLength: Int = 1024) -> String {
        optional(key)?.string(maxLength: maxLength) ?? value
    }

    package func bool(_ key: String, default value: Bool) -> Bool {
        optional(key)?.bool() ?? value
    }

    package func integer(_ key: String, in range: ClosedRange<Int>, default value: Int) -> Int {
        optional(key)?.integer(in: range) ?? value
    }

    package func number(_ key: String, in range: ClosedRange<Double>, default value: Double) -> Double {
        optional(key)?.number(in: range) ?? value
    }

    package func duration(_ key: String, in range: ClosedRange<Seconds>, default value: Seconds) -> Seconds {
        optional(key)?.duration(in: range) ?? value
    }

    package func choice<Choice>(_ key: String, default value: Choice) -> Choice
    where Choice: CaseIterable & RawRepresentable, Choice.RawValue == String {
        optional(key)?.choice(Choice.self) ?? value
    }

    /// Records an error at the mapping itself.
    package func reject(_ message: String) { place.reject(message) }

    func rejectUnknownKeys() {
        for (name, node) in keys where !known.contains(name) && !name.hasPrefix("x-") {
            place.errors.add(
                line: node.mark?.line,
                column: node.mark?.column,
                keyPath: path(of: name),
                message: "unknown key; allowed here: \(known.joined(separator: ", ")), and x-…"
            )
        }
    }

    private func path(of key: String) -> String {
        place.keyPath.isEmpty ? key : "\(place.keyPath).\(key)"
    }
}
