// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Testing

private enum Colour: String, CaseIterable { case red, green }

private struct Thing: Equatable {
    var name: String?
    var size: Int
    var share: Double
    var colour: Colour
    var wait: Seconds
    var tags: [String]
}

private func thing(_ root: DocumentValue) -> Thing? {
    root.object { object in
        Thing(
            name: object.required("name")?.string(),
            size: object.integer("size", in: 1...9, default: 3),
            share: object.number("share", in: 0...1, default: 0.5),
            colour: object.choice("colour", default: Colour.red),
            wait: object.duration("wait", in: .zero...Seconds(60), default: Seconds(1)),
            tags: object.optional("tags")?.list().compactMap { $0.string() } ?? []
        )
    }
}

private func errors(_ text: String, limits: DocumentLimits = .standard) -> [String] {
    do {
        _ = try Document.read(text: text, file: "t.yaml", limits: limits, thing)
        return []
    } catch {
        return error.errors.map(\.description)
    }
}

@Suite struct DocumentTests {
    @Test func readsYAML() throws {
        let text = """
            name: a
            size: 4
            share: 2.5e-1
            colour: green
            wait: 1m0s
            tags: [x, "5"]
            x-note: {any: thing}
            """
        let read = try Document.read(text: text, file: "t.yaml", thing)
        let expected = Thing(name: "a", size: 4, share: 0.25, colour: .green, wait: Seconds(60), tags: ["x", "5"])
        #expect(read == expected)
    }

    @Test func readsJSON() throws {
        let read = try Document.read(text: #"{"name": "a", "size": 9, "tags": []}"#, file: "t.json", thing)
        #expect(read == Thing(name: "a", size: 9, share: 0.5, colour: .red, wait: Seconds(1), tags: []))
    }

    @Test func nullIsAbsent() throws {
        #expect(errors("name: ~\n") == ["t.yaml:1:1: name: is required"])
        #expect(try Document.read(text: "name: a\nsize:\n", file: "t", thing).size == 3)
    }

    @Test func reportsEveryErrorInTheOrderOfTheFile() {
        let text = """
            size: 10
            share: .inf
            colour: blue
            wait: 5
            tags: x
            nmae: a
            """
        #expect(
            errors(text) == [
                "t.yaml:1:1: name: is required",
                "t.yaml:1:7: size: must be an integer from 1 to 9, not 10",
                "t.yaml:2:8: share: must be a number from 0.0 to 1.0, not .inf",
                "t.yaml:3:9: colour: must be one of red, green, not blue",
                "t.yaml:4:7: wait: must be a duration such as 50ms, 2s or 1m30s, from 0.0 to 60.0 seconds, not 5",
                "t.yaml:5:7: tags: must be a list, not x",
                "t.yaml:6:1: nmae: unknown key; allowed here: name, size, share, colour, wait, tags, and x-…",
            ]
        )
    }

    @Test(arguments: ["\"4\"", "4.0", "0x4", "99999999999999999999", "nan", "[4]", "{}", "true", "!!str 4"])
    func refusesWhatIsNoInteger(_ text: String) {
        #expect(errors("name: a\nsize: \(text)\n").count == 1)
    }

    @Test(arguments: ["nan", "inf", "1e999", "0x1p-2", ".nan", "-0.1", "\"0.5\"", "1_0"])
    func refusesWhatIsNoNumberInRange(_ text: String) {
        #expect(errors("name: a\nshare: \(text)\n").count == 1)
    }

    @Test(arguments: ["name: [a", "name: a\n\tsize: 1", "- a\nname: b", "name: a\nname: b", "", "--- a\n--- b", "*b"])
    func malformedDocumentsAreErrorsWithAFile(_ text: String) {
        let found = errors(text)
        #expect(found.count == 1)
        #expect(found.allSatisfy { $0.hasPrefix("t.yaml") })
    }

    @Test func repeatedKeysNameTheirLine() {
        #expect(errors("size: 1\nname: a\nname: b\n")[0].hasPrefix("t.yaml:2:1: keys must be unique"))
    }

    @Test func limitsHold() {
        #expect(errors("name: aaaaaaaaaa", limits: DocumentLimits(bytes: 8)) == ["t.yaml: is larger than 8 bytes"])
        let deep = String(repeating: "[", count: 40) + String(repeating: "]", count: 40)
        #expect(errors("name: \(deep)").first?.contains("deeper than 32") == true)
        let deepest = String(repeating: "- ", count: 200_000)
        #expect(errors(deepest).count == 1)
        let many = "name: [" + String(repeating: "a,", count: 100) + "]"
        #expect(errors(many, limits: DocumentLimits(values: 50)).count == 1)
    }

    /// A billion laughs: nine levels of nine aliases each.
    @Test func aliasesCannotGrowWithoutBound() {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        for level in 1...12 {
            let names = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
            text += "a\(level): &a\(level) [\(names)]\n"
        }
        #expect(errors(text).first?.contains("more than 200000 values") == true)
        #expect(errors(text + "? *a12\n: x\n") == ["t.yaml: a document with aliases (*name) must have plain keys"])
        #expect(errors(text + "*a12 : x\n") == ["t.yaml: a document with aliases (*name) must have plain keys"])
        #expect(errors(text + "{[*a12]: x}\n") == ["t.yaml: a document with aliases (*name) must have plain keys"])
    }

    @Test func anAliasIsAllowed() throws {
        let read = try Document.read(text: "name: &n a\ntags: [*n, *n]\n", file: "t", thing)
        #expect(read.tags == ["a", "a"])
    }

    @Test func errorsAreBounded() {
        let text = (0..<1000).map { "k\($0): 1\n" }.joined()
        #expect(errors(text).count == 200)
    }

    @Test func aMissingFileIsAnError() {
        do {
            _ = try Document.read(path: "/nonexistent/fleet.yaml", thing)
            Issue.record("read a missing file")
        } catch {
            let expected = "/nonexistent/fleet.yaml: cannot be read: No such file or directory"
            #expect(error.errors.map(\.description) == [expected])
        }
    }

    @Test func aFileWithoutEndIsAnError() {
        do {
            _ = try Document.read(path: "/dev/zero", limits: DocumentLimits(bytes: 100_000), thing)
            Issue.record("read a file without end")
        } catch {
            #expect(error.errors.map(\.message) == ["is larger than 100000 bytes"])
        }
    }
}

@Suite struct GoDurationTests {
    @Test(arguments: [
        ("0", 0), ("50ms", 0.05), ("1m30s", 90), ("1.5h", 5400), ("2us", 2e-6), ("-3s", -3), ("1h2m3s4ms", 3723.004),
    ])
    func parses(_ text: String, _ seconds: Double) throws {
        let value = try #require(GoDuration.parse(text))
        #expect(abs(value.rawValue - seconds) < 1e-9)
    }

    @Test(arguments: ["", "5", "s", "-", "1d", "1.2.3s", "ms5", "5 s", "9999999h", "1e3s", "٣s"])
    func refuses(_ text: String) {
        #expect(GoDuration.parse(text) == nil)
    }
}
