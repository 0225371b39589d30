// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation
import TestSupport
import Testing

@testable import Gateway

/// Long strings are read by another way than short ones; Foundation says what they mean.
@Suite("Long strings in a document")
struct LongStringTests {
    private static func document(_ text: String) -> PaddedBytes {
        var bytes = PaddedBytes()
        unsafe Array(text.utf8).withUnsafeBytes { unsafe bytes.append($0) }
        bytes.pad()
        return bytes
    }

    /// The strings of an array, or nil where it is no JSON. Checks that the document stays as it is.
    private static func strings(_ text: String) -> [[UInt8]]? {
        var parser = JSONParser(maxBytes: 1 << 22)
        let document = document(text)
        var found: [[UInt8]] = []
        var again: [[UInt8]] = []
        do {
            try parser.parse(document) { root in
                #expect(unsafe document.bytes.elementsEqual(text.utf8))
                root.forEachElement { element in
                    if let bytes = unsafe element.utf8 { found.append(unsafe Array(bytes)) }
                    // What is printed of it means the same.
                    unsafe element.withText { bytes in
                        let text = unsafe "[\(String(decoding: bytes, as: UTF8.self))]"
                        again += meant(text) ?? []
                    }
                    return true
                }
            }
        } catch {
            #expect(unsafe document.bytes.elementsEqual(text.utf8))
            return nil
        }
        #expect(again == found)
        return found
    }

    private static func meant(_ text: String) -> [[UInt8]]? {
        (try? JSONDecoder().decode([String].self, from: Data(text.utf8)))?.map { Array($0.utf8) }
    }

    static let escapes = [
        #"\n"#, #"\t"#, #"\r"#, #"\b"#, #"\f"#, #"\""#, #"\\"#, #"\/"#, #"\u00e9"#, #"\ud83d\ude00"#, #"\\\\\n"#,
        #"\\\""#,
    ]

    @Test("An escape at each place of strings of each length", arguments: escapes)
    func places(escape: String) {
        for length in [100, 126, 127, 128, 129, 191, 192, 193, 256, 300] {
            for place in 0..<length {
                let text =
                    String(repeating: "a", count: place) + escape + String(repeating: "b", count: length - place - 1)
                let document = "[\"\(text)\" , \"x\",\"\(text)\"\n]"
                #expect(Self.strings(document) == Self.meant(document), "\(escape) at \(place) of \(length)")
            }
        }
    }

    @Test(
        "A wrong escape is refused wherever it stands",
        arguments: [#"\x"#, #"\é"#, #"\ "#, #"\u12g4"#, #"\ud83dx"#, #"\'"#]
    )
    func wrong(escape: String) {
        for place in 0..<200 {
            let text = String(repeating: "a", count: place) + escape + String(repeating: "b", count: 200 - place)
            #expect(Self.strings("[\"\(text)\"]") == nil, "\(escape) at \(place)")
        }
        let text = String(repeating: "a", count: 200)
        #expect(Self.strings("[\"\(text)\\\"]") == nil && Self.strings("[\"\(text)\u{1}\"]") == nil)
        #expect(Self.strings("[\"\(text)\"x]") == nil && Self.strings("[\"\(text)\" \"\(text)\"]") == nil)
    }

    @Test("Random documents mean what Foundation says", arguments: UInt64(0)..<20)
    func random(block: UInt64) {
        for seed in block * 20..<(block + 1) * 20 {
            var random = SplitMix64(seed: seed)
            let strings = (0..<Int.random(in: 1..<8, using: &random)).map { _ in Self.string(&random) }
            let document = "[ " + strings.map { "\"\($0)\"" }.joined(separator: " ,\n") + "\t]"
            #expect(Self.strings(document) == Self.meant(document), "seed \(seed)")
        }
    }

    private static func string(_ random: inout SplitMix64) -> String {
        let pieces = RandomJSON.pieces + escapes
        let (rarity, kinds) = (Int.random(in: 1..<100, using: &random), Bool.random(using: &random) ? 8 : escapes.count)
        return (0..<Int.random(in: 0..<600, using: &random)).map { _ in
            guard Int.random(in: 0..<rarity, using: &random) == 0 else { return "a" }
            guard kinds == 8 else { return pieces.randomElement(using: &random) ?? "" }
            return escapes.prefix(kinds).randomElement(using: &random) ?? ""
        }
        .joined()
    }

    @Test("More long strings than are kept account of are read all the same")
    func many() throws {
        let texts = (0..<5_000).map { String(repeating: $0 % 2 == 0 ? "a" : "\\n", count: 140) + String($0) }
        let document = "[" + texts.map { "\"\($0)\"" }.joined(separator: ",") + "]"
        #expect(Self.strings(document) == Self.meant(document))
    }

    @Test("A long string without escapes is read where it lies")
    func place() throws {
        let text = String(repeating: "what is said ", count: 1_000)
        let document = Self.document("{\"prompt\":\"\(text)\"}")
        var parser = JSONParser(maxBytes: 1 << 20)
        let place = try parser.parse(document) { root in
            unsafe root["prompt"]?.utf8.map { UInt(bitPattern: $0.baseAddress) }
        }
        let start = unsafe UInt(bitPattern: document.bytes.baseAddress)
        #expect(place == start + UInt(#"{"prompt":""#.utf8.count))
    }

    @Test("A key may be long, and what is printed of an object holds it")
    func keys() throws {
        let key = String(repeating: "k", count: 300)
        let text = "{\"\(key)\":\"\(key)\\n\", \"\(key)2\" : [1, \"\(key)\"]}"
        var parser = JSONParser(maxBytes: 1 << 20)
        let document = Self.document(text)
        var keys: [String] = []
        var printed = ""
        try parser.parse(document) { root in
            unsafe root.forEachMember { name, _ in keys.append(unsafe String(decoding: name, as: UTF8.self)) }
            unsafe root.withText { printed = unsafe String(decoding: $0, as: UTF8.self) }
        }
        #expect(keys == [key, key + "2"])
        #expect(printed == "{\"\(key)\":\"\(key)\\n\",\"\(key)2\":[1,\"\(key)\"]}")
    }
}
