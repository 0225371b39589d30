// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
internal import Yams

/// One value of a document, at its key path. Each reader records what is wrong, and says what is allowed.
package struct DocumentValue {
    let node: Node
    package let keyPath: String
    let errors: ErrorCollection

    /// Every finite number.
    package static let finite = -Double.greatestFiniteMagnitude...Double.greatestFiniteMagnitude

    /// Records an error at this place.
    package func reject(_ message: String) {
        errors.add(line: node.mark?.line, column: node.mark?.column, keyPath: keyPath, message: message)
    }

    /// True for `null`, `~` and an empty value: the same as an absent key.
    package var isNull: Bool {
        guard case .scalar(let scalar) = node, isPlain(scalar) else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    package var isList: Bool {
        if case .sequence = node { true } else { false }
    }

    package var isObject: Bool {
        if case .mapping = node { true } else { false }
    }

    /// A string; plain numbers and booleans are taken as they are written.
    package func string(maxLength: Int = 1024, allowsEmpty: Bool = false) -> String? {
        guard case .scalar(let scalar) = node, !isNull else { return rejected("must be a string, not \(kind)") }
        guard !scalar.string.isEmpty || allowsEmpty else { return rejected("must not be empty") }
        guard scalar.string.utf8.count <= maxLength
        else { return rejected("must be at most \(maxLength) bytes long") }
        return scalar.string
    }

    package func bool() -> Bool? {
        switch plain {
        case "true", "True", "TRUE": return true
        case "false", "False", "FALSE": return false
        default: return rejected("must be true or false, not \(kind)")
        }
    }

    package func integer(in range: ClosedRange<Int> = Int.min...Int.max) -> Int? {
        let allowed =
            range == Int.min...Int.max
            ? "an integer"
            : range.upperBound == Int.max
                ? "an integer of at least \(range.lowerBound)"
                : "an integer from \(range.lowerBound) to \(range.upperBound)"
        guard let text = plain, let value = Int(text), range.contains(value)
        else { return rejected("must be \(allowed), not \(kind)") }
        return value
    }

    /// A finite number.
    package func number(in range: ClosedRange<Double> = DocumentValue.finite) -> Double? {
        let lower = range.lowerBound > -Double.greatestFiniteMagnitude
        let upper = range.upperBound < Double.greatestFiniteMagnitude
        let allowed =
            switch (lower, upper) {
            case (true, true): "a number from \(range.lowerBound) to \(range.upperBound)"
            case (true, false): "a number of at least \(range.lowerBound)"
            case (false, true): "a number of at most \(range.upperBound)"
            case (false, false): "a finite number"
            }
        guard let text = plain, looksLikeNumber(text), let value = Double(text), value.isFinite, range.contains(value)
        else { return rejected("must be \(allowed), not \(kind)") }
        return value
    }

    /// One of an enumeration's raw values.
    package func choice<Choice>(_ type: Choice.Type = Choice.self) -> Choice?
    where Choice: CaseIterable & RawRepresentable, Choice.RawValue == String {
        if case .scalar(let scalar) = node, let value = Choice(rawValue: scalar.string) { return value }
        let allowed = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        return rejected("must be one of \(allowed), not \(kind)")
    }

    /// One of the given strings.
    package func choice(of allowed: [String]) -> String? {
        if case .scalar(let scalar) = node, allowed.contains(scalar.string) { return scalar.string }
        return rejected("must be one of \(allowed.joined(separator: ", ")), not \(kind)")
    }

    /// A duration as Go writes it.
    package func duration(in range: ClosedRange<Seconds>) -> Seconds? {
        let limits = "from \(range.lowerBound.rawValue) to \(range.upperBound.rawValue) seconds"
        guard case .scalar(let scalar) = node, let value = GoDuration.parse(scalar.string), range.contains(value)
        else { return rejected("must be \(GoDuration.allowed), \(limits), not \(kind)") }
        return value
    }

    /// The elements of a sequence; empty where it is none.
    package func list(maxCount: Int = 100_000) -> [DocumentValue] {
        guard case .sequence(let sequence) = node else {
            reject("must be a list, not \(kind)")
            return []
        }
        guard sequence.count <= maxCount else {
            reject("must have at most \(maxCount) elements, not \(sequence.count)")
            return []
        }
        return sequence.enumerated().map { index, child in
            DocumentValue(node: child, keyPath: "\(keyPath)[\(index)]", errors: errors)
        }
    }

    /// Reads a mapping. Keys that `body` did not ask for are recorded as unknown, except `x-…`.
    package func object<Result>(_ body: (DocumentObject) -> Result?) -> Result? {
        guard case .mapping(let mapping) = node else { return rejected("must be a mapping of keys, not \(kind)") }
        let object = DocumentObject(mapping: mapping, at: self)
        let result = body(object)
        object.rejectUnknownKeys()
        return result
    }

    /// The entries of a mapping whose keys are free, in the order of the file; empty where it is none.
    package func entries(maxCount: Int = 10_000) -> [(key: String, value: DocumentValue)] {
        guard case .mapping(let mapping) = node else {
            reject("must be a mapping of keys, not \(kind)")
            return []
        }
        guard mapping.count <= maxCount else {
            reject("must have at most \(maxCount) keys, not \(mapping.count)")
            return []
        }
        return mapping.compactMap { key, value in
            guard case .scalar(let scalar) = key else {
                DocumentValue(node: key, keyPath: keyPath, errors: errors).reject("keys must be strings")
                return nil
            }
            let path = keyPath.isEmpty ? scalar.string : "\(keyPath).\(scalar.string)"
            return (scalar.string, DocumentValue(node: value, keyPath: path, errors: errors))
        }
    }

    /// What stands here, as an error message says it.
    private var kind: String {
        switch node {
        case .mapping: return "a mapping"
        case .sequence: return "a list"
        case .alias: return "an alias"
        case .scalar(let scalar):
            if isNull { return "null" }
            let shown = scalar.string.prefix(64)
            return isPlain(scalar) ? String(shown) : "\"\(shown)\""
        }
    }

    private var plain: String? {
        guard case .scalar(let scalar) = node, isPlain(scalar) else { return nil }
        return scalar.string
    }

    private func isPlain(_ scalar: Node.Scalar) -> Bool {
        scalar.style == .plain && scalar.tag.description != Tag.Name.str.rawValue
    }

    /// `Double.init` also takes hexadecimal, infinity and nan.
    private func looksLikeNumber(_ text: String) -> Bool {
        text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "e"), UInt8(ascii: "E"):
                true
            default: false
            }
        }
    }

    private func rejected<Result>(_ message: String) -> Result? {
        reject(message)
        return nil
    }
}
