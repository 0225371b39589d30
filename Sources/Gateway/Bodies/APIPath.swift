// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

extension InferenceAPI {
    private static let suffixes: [(path: String, api: InferenceAPI)] = [
        ("chat/completions", .chatCompletions), ("completions", .completions), ("embeddings", .embeddings),
        ("responses", .responses), ("messages", .messages),
    ]

    /// The API behind `path`: by its longest known ending, without query and trailing slash, so that gateways may mount
    /// the API below any prefix.
    package init(path: String) {
        var end = path.firstIndex { $0 == "?" || $0 == "#" } ?? path.endIndex
        if path[..<end].hasSuffix("/") { end = path.index(before: end) }
        let path = path[..<end]
        let match = Self.suffixes
            .filter { path.hasSuffix("/" + $0.path) }
            .max { $0.path.utf8.count < $1.path.utf8.count }
        self = match?.api ?? .other
    }
}
