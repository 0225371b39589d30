// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Yams

/// How large a document may be. Files come from operators, but also from mounted config maps that others write.
package struct DocumentLimits: Sendable, Hashable {
    package var bytes: Int
    /// Mappings and sequences within each other.
    package var depth: Int
    /// Values after aliases were followed, so that aliases of aliases cannot grow without bound.
    package var values: Int

    package init(bytes: Int = 4 << 20, depth: Int = 32, values: Int = 200_000) {
        self.bytes = bytes
        self.depth = depth
        self.values = values
    }

    package static let standard = DocumentLimits()
}

/// A YAML document (JSON is YAML) whose values know their place, and whose readers collect errors.
///
///     let fleet = try Document.read(path: path) { root in
///         root.object { object in
///             Thing(name: object.required("name")?.string(), size: object.integer("size", in: 1...9, default: 3))
///         }
///     }
///
/// Readers return nil (or the default) where something is wrong and go on; `read` throws all errors at the end.
package enum Document {
    /// Reads a file. Gives what `body` made of the document's root, when no error was recorded.
    package static func read<Value>(
        path: String,
        limits: DocumentLimits = .standard,
        _ body: (DocumentValue) -> Value?
    ) throws(ConfigurationErrors) -> Value {
        let text: String
        do {
            text = try FileContents.text(path: path, limit: limits.bytes)
        } catch {
            throw ConfigurationErrors(ConfigurationError(file: path, message: error.description))
        }
        return try read(text: text, file: path, limits: limits, body)
    }

    /// Reads a text; errors call it `file`.
    package static func read<Value>(
        text: String,
        file: String,
        limits: DocumentLimits = .standard,
        _ body: (DocumentValue) -> Value?
    ) throws(ConfigurationErrors) -> Value {
        let root = try compose(text, file: file, limits: limits)
        let errors = ErrorCollection(file: file)
        let value = body(DocumentValue(node: root, keyPath: "", errors: errors))
        guard errors.errors.isEmpty else { throw ConfigurationErrors(errors.sorted) }
        guard let value else {
            // A reader that returns nil without a word would otherwise pass for success.
            let message = "cannot be read as what is expected here"
            throw ConfigurationErrors(ConfigurationError(file: file, message: message))
        }
        return value
    }

    private static func compose(
        _ text: String,
        file: String,
        limits: DocumentLimits
    ) throws(ConfigurationErrors) -> Node {
        func failure(_ message: String, _ mark: Mark? = nil) -> ConfigurationErrors {
            ConfigurationErrors(
                ConfigurationError(file: file, line: mark?.line, column: mark?.column, message: message)
            )
        }
        guard text.utf8.count <= limits.bytes else { throw failure("is larger than \(limits.bytes) bytes") }
        guard !hasAliasesAndCompositeKeys(text) else {
            throw failure("a document with aliases (*name) must have plain keys")
        }
        let root: Node?
        do {
            // The basic resolver: scalars are typed by what is asked of them, not by patterns.
            root = try Yams.compose(yaml: text, .basic, .default, .utf8)
        } catch let error as YamlError {
            throw failure(message(of: error), mark(of: error))
        } catch {
            throw failure("is not YAML")
        }
        guard let root else { throw failure("is empty") }
        var left = limits.values
        guard fits(root, depth: limits.depth, left: &left) else {
            throw failure("holds more than \(limits.values) values, or nests them deeper than \(limits.depth)")
        }
        return root
    }

    /// Yams compares the keys of a mapping while it composes. A key that is itself a mapping of aliases of aliases
    /// would take exponential time there, before any limit of ours. So the two are not allowed together; the test is
    /// on bytes, and errs on the safe side.
    private static func hasAliasesAndCompositeKeys(_ text: String) -> Bool {
        var hasAlias = false
        var hasCompositeKey = false
        var previous: UInt8 = 0
        /// The last byte that was not a space, and whether an alias's name runs up to here.
        var lastSolid: UInt8 = 0
        var inAlias = false
        var afterAlias = false
        for byte in text.utf8 {
            let isName = isAnchorByte(byte)
            if previous == UInt8(ascii: "*"), isName {
                hasAlias = true
                inAlias = true
            } else if inAlias, !isName {
                inAlias = false
                afterAlias = true
            }
            if byte == UInt8(ascii: ":") {
                let closes = lastSolid == UInt8(ascii: "]") || lastSolid == UInt8(ascii: "}")
                if closes || afterAlias { hasCompositeKey = true }
            }
            if previous == UInt8(ascii: "?"), isBlank(byte) { hasCompositeKey = true }
            if !isBlank(byte) {
                lastSolid = byte
                if byte != UInt8(ascii: ":"), !inAlias { afterAlias = false }
            }
            previous = byte
        }
        return hasAlias && hasCompositeKey
    }

    private static func isAnchorByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: "\n")
            || byte == UInt8(ascii: "\r")
    }

    private static func fits(_ node: Node, depth: Int, left: inout Int) -> Bool {
        left -= 1
        guard left >= 0, depth > 0 else { return false }
        switch node {
        case .scalar, .alias: return true
        case .sequence(let sequence):
            for child in sequence where !fits(child, depth: depth - 1, left: &left) { return false }
        case .mapping(let mapping):
            for (key, value) in mapping {
                guard fits(key, depth: depth - 1, left: &left), fits(value, depth: depth - 1, left: &left)
                else { return false }
            }
        }
        return true
    }

    private static func message(of error: YamlError) -> String {
        switch error {
        case .scanner(let context, let problem, _, _), .parser(let context, let problem, _, _),
            .composer(let context, let problem, _, _):
            let text = context.map { "\($0.text) " } ?? ""
            return "is not YAML: \(text)\(problem)"
        case .reader(let problem, _, _, _): return "is not YAML: \(problem)"
        case .duplicatedKeysInMapping(let duplicates, _):
            return "keys must be unique; repeated: \(duplicates.joined(separator: ", "))"
        default: return "is not YAML"
        }
    }

    private static func mark(of error: YamlError) -> Mark? {
        switch error {
        case .scanner(_, _, let mark, _), .parser(_, _, let mark, _), .composer(_, _, let mark, _): mark
        case .duplicatedKeysInMapping(_, let context): context.mark
        default: nil
        }
    }
}
