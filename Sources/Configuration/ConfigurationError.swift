// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One thing that is wrong in a file: where, and what is allowed instead.
package struct ConfigurationError: Error, Sendable, Hashable, Codable, CustomStringConvertible {
    package var file: String
    /// Counted from 1. nil where the file as a whole is meant.
    package var line: Int?
    package var column: Int?
    /// `endpoints[2].metrics.port`; empty for the document itself.
    package var keyPath: String
    package var message: String

    package init(file: String, line: Int? = nil, column: Int? = nil, keyPath: String = "", message: String) {
        self.file = file
        self.line = line
        self.column = column
        self.keyPath = keyPath
        self.message = message
    }

    /// `file:line:column: key path: message`, the form that editors jump to.
    package var description: String {
        var text = file
        if let line { text += ":\(line)" }
        if let line, line > 0, let column { text += ":\(column)" }
        text += ": "
        if !keyPath.isEmpty { text += "\(keyPath): " }
        return text + message
    }
}

/// Everything that is wrong in one reading, in the order of the file. Never empty.
package struct ConfigurationErrors: Error, Sendable, Hashable, CustomStringConvertible {
    package var errors: [ConfigurationError]

    package init(_ errors: [ConfigurationError]) { self.errors = errors }
    package init(_ error: ConfigurationError) { self.errors = [error] }

    package var description: String { errors.map(\.description).joined(separator: "\n") }
}

/// Collects errors while a document is read, so that a reader reports all of them and not the first alone.
///
/// A class, because every value of one document shares it. Confined to the thread that reads.
final class ErrorCollection {
    /// More than anyone reads; a file of another kind altogether would give one for each of its lines.
    static let limit = 200

    let file: String
    private(set) var errors: [ConfigurationError] = []

    init(file: String) { self.file = file }

    func add(line: Int?, column: Int?, keyPath: String, message: String) {
        guard errors.count < Self.limit else { return }
        errors.append(
            ConfigurationError(file: file, line: line, column: column, keyPath: keyPath, message: message)
        )
    }

    /// In the order of the file; those of one place in the order they were found.
    var sorted: [ConfigurationError] {
        errors.enumerated()
            .sorted { a, b in
                (a.element.line ?? 0, a.element.column ?? 0, a.offset)
                    < (b.element.line ?? 0, b.element.column ?? 0, b.offset)
            }
            .map(\.element)
    }
}
