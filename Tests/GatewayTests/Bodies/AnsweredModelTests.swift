// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import Gateway

@Suite("The answered model")
struct AnsweredModelTests {
    static func run(_ text: String, pieces: Int) -> String {
        var model = AnsweredModel(served: "v\"1", asked: "asked/model")
        var result: [UInt8] = []
        let bytes = Array(text.utf8)
        for start in stride(from: 0, to: bytes.count, by: pieces) {
            let piece = Array(bytes[start..<min(start + pieces, bytes.count)])
            result += unsafe piece.withUnsafeBytes { unsafe model.pass($0) }
        }
        result += model.finish()
        return String(decoding: result, as: UTF8.self)
    }

    static let cases: [(String, String)] = [
        (#"{"id":"x","model":"v\"1","choices":[]}"#, #"{"id":"x","model":"asked/model","choices":[]}"#),
        (#"{"model" : "v\"1"}"#, #"{"model" : "asked/model"}"#),
        (
            "data: {\"model\":\"v\\\"1\"}\n\ndata: {\"model\":\"v\\\"1\"}\n\n",
            "data: {\"model\":\"asked/model\"}\n\ndata: {\"model\":\"asked/model\"}\n\n"
        ),
        (#"{"model":"v\"12","content":"\"model\":\"v\\"1\""}"#, #"{"model":"v\"12","content":"\"model\":\"v\\"1\""}"#),
        (#"{"mo"model":"v\"1","mode":""model":"v\"1"}"#, #"{"mo"model":"asked/model","mode":""model":"asked/model"}"#),
        (#"{"model":"v\"#, #"{"model":"v\"#), ("", ""), ("\"", "\""),
    ]

    @Test("No number of blanks is held back")
    func blanksAreNotHeldForEver() {
        var model = AnsweredModel(served: "v", asked: "asked")
        let bytes = Array(("\"model\":" + String(repeating: " ", count: 10_000)).utf8)
        let passed = unsafe bytes.withUnsafeBytes { unsafe model.pass($0) }
        #expect(passed == bytes)
    }

    @Test("The served name becomes the asked one, wherever the bytes are cut", arguments: [1, 2, 3, 7, 1000])
    func replaced(_ pieces: Int) {
        for (text, expected) in Self.cases { #expect(Self.run(text, pieces: pieces) == expected) }
    }
}
