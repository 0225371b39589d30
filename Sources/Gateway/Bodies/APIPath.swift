// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

extension InferenceAPI {
    private static let endings: [(path: StaticString, api: InferenceAPI)] = [
        ("/v1/chat/completions", .chatCompletions), ("/v1/completions", .completions), ("/v1/embeddings", .embeddings),
        ("/v1/responses", .responses), ("/v1/messages", .messages),
    ]

    /// The API behind `path`: by its known ending, without query and trailing slash, so that gateways may mount the API below
    /// any prefix. The version belongs to the ending: other APIs have paths like `/v1/threads/ID/messages`.
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
