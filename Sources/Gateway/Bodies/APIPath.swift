// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

extension InferenceAPI {
    /// Longer endings before those that they end with.
    private static let endings: [(path: StaticString, api: InferenceAPI)] = [
        ("/chat/completions", .chatCompletions), ("/completions", .completions), ("/embeddings", .embeddings),
        ("/responses", .responses), ("/messages", .messages),
    ]

    /// The API behind `path`: by its longest known ending, without query and trailing slash, so that gateways may mount
    /// the API below any prefix.
    package init(path: String) {
        var path = path
        self = path.withUTF8 { utf8 in
            let query = unsafe utf8.firstIndex { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") } ?? utf8.count
            var bytes = unsafe UnsafeRawBufferPointer(utf8)[..<query]
            if unsafe bytes.last == UInt8(ascii: "/") { unsafe bytes.removeLast() }
            for (ending, api) in Self.endings where unsafe bytes.count >= ending.utf8CodeUnitCount {
                let tail = unsafe UnsafeRawBufferPointer(rebasing: bytes.suffix(ending.utf8CodeUnitCount))
                if unsafe tail.equals(ending) { return api }
            }
            return .other
        }
    }
}
