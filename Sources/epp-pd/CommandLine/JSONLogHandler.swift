// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation
import Logging

/// Log lines as JSON objects on standard error, for collectors: `time`, `level`, `message`, and the metadata beside them.
struct JSONLogHandler: LogHandler {
    var logLevel = Logger.Level.info
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?
    private let label: String

    init(label: String) { self.label = label }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var all = metadata
        if let provided = metadataProvider?.get() { all.merge(provided) { _, new in new } }
        if let own = event.metadata { all.merge(own) { _, new in new } }
        if let error = event.error { all["error"] = "\(error)" }
        Console.error(
            Self.line(label: label, level: event.level, message: "\(event.message)", metadata: all, at: Date())
        )
    }

    /// One object with sorted keys. Metadata that is called like a field of ours gets a name of its own.
    static func line(
        label: String,
        level: Logger.Level,
        message: String,
        metadata: Logger.Metadata,
        at time: Date
    ) -> String {
        var fields: [String: String] = [:]
        for (key, value) in metadata {
            fields[["time", "level", "logger", "message"].contains(key) ? "_\(key)" : key] = "\(value)"
        }
        // The style is in UTC.
        fields["time"] = time.formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true)) + "Z"
        fields["level"] = level.rawValue
        fields["logger"] = label
        fields["message"] = message
        // Strings alone: nothing that JSON has no form for.
        return (try? JSONLine.encode(fields)) ?? message
    }

    /// Whether a line is one of these: all four fields, and only strings.
    static func wrote(_ line: Data) -> Bool {
        guard let fields = try? JSONDecoder().decode([String: String].self, from: line) else { return false }
        return ["time", "level", "logger", "message"].allSatisfy { fields[$0] != nil }
    }
}

/// How log lines are written.
enum LogFormat: String, CaseIterable {
    case text, json
}
