// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation

/// The repository's own files, as its tests see them.
enum Repository {
    static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    struct File: Sendable, CustomStringConvertible {
        var path: String
        var lines: [Substring]

        var description: String { path }
        /// The first folder under Sources: the room that the file belongs to.
        var room: String? {
            let parts = path.split(separator: "/")
            return parts.first == "Sources" && parts.count > 2 ? String(parts[1]) : nil
        }
    }

    /// Text files with one of these extensions under `folders`, sorted by path. Hidden and generated files are left out.
    static func files(in folders: [String], extensions: Set<String>) -> [File] {
        folders.flatMap { folder -> [File] in
            let place = root.appending(path: folder)
            let found = FileManager.default.enumerator(atPath: place.path)?.compactMap { $0 as? String } ?? []
            return found.sorted().compactMap { name in
                guard extensions.contains((name as NSString).pathExtension), !isGenerated(name),
                    let text = try? String(contentsOf: place.appending(path: name), encoding: .utf8)
                else { return nil }
                let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
                return File(path: "\(folder)/\(name)", lines: lines)
            }
        }
    }

    static let swift = files(in: ["Sources", "Tests"], extensions: ["swift"])
    static let c = files(in: ["Sources"], extensions: ["c", "cpp", "h"])

    private static func isGenerated(_ name: String) -> Bool { name.contains(".pb-c.") || name.contains(".build") }
}
