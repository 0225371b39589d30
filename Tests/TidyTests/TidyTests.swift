// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation
import Testing

/// Tests of the repository itself (after TigerBeetle's tidy): what the compiler does not check and people forget.
@Suite("Tidy")
struct TidyTests {
    @Test("Swift and C files begin with the licence header", arguments: Repository.swift + Repository.c)
    func licence(_ file: Repository.File) {
        #expect(file.lines.first == "// SPDX-License-Identifier: Apache-2.0", "\(file)")
        #expect(file.lines.dropFirst().first == "// Copyright the epp-pd authors", "\(file)")
    }

    /// Which modules a room may import besides Swift's own: arrows go one way only (docs/decisions/0001-rooms.md).
    static let mayImport: [String: Set<String>] = [
        "CostModel": ["FoundationEssentials"],
        "Locks": ["Glibc"],
        "PrefixIndex": ["Locks", "CIndexKernels", "CLZ4", "CXXHash", "FoundationEssentials"],
        "Router": ["CostModel", "PrefixIndex", "HeapModule", "FoundationEssentials"],
        "Gateway": [
            "Router", "PrefixIndex", "CostModel", "CNghttp2", "CSimdjson", "CZlib", "FoundationEssentials",
        ],
        "Autoscaling": ["Router", "CostModel", "FoundationEssentials"],
        "Telemetry": ["Router", "CostModel", "PrefixIndex", "Autoscaling", "FoundationEssentials"],
        "Simulation": [
            "Router", "CostModel", "PrefixIndex", "HeapModule", "FoundationEssentials",
        ],
    ]
    static let swiftsOwn: Set<String> = ["Swift", "Synchronization"]

    @Test("Pure rooms import only what they may", arguments: Repository.swift.filter { $0.room != nil })
    func imports(_ file: Repository.File) {
        guard let room = file.room, let allowed = Self.mayImport[room] else { return }
        for line in file.lines {
            guard let module = Self.importedModule(line) else { continue }
            // C's mathematics is no I/O.
            if module == "Glibc" || module == "Darwin" { continue }
            #expect(allowed.contains(module) || Self.swiftsOwn.contains(module), "\(file) imports \(module)")
        }
    }

    private static func importedModule(_ line: Substring) -> String? {
        let words = line.split(separator: " ")
        guard let index = words.firstIndex(of: "import"), index <= 2, index + 1 < words.count else { return nil }
        let modifiers: Set<Substring> = ["package", "public", "internal", "private", "fileprivate", "@testable"]
        guard words[..<index].allSatisfy(modifiers.contains) else { return nil }
        // `import struct Module.Type`
        return words.last?.split(separator: ".").first.map(String.init)
    }

    @Test(
        "Sources do not trap on purpose and leave nothing unfinished",
        arguments: Repository.swift.filter { $0.room != nil }
    )
    func bannedWords(_ file: Repository.File) {
        let banned = ["try" + "!", "fatal" + "Error(", "TO" + "DO", "FIX" + "ME", "print" + "(\"DEBUG"]
        for (number, line) in file.lines.enumerated() {
            for word in banned {
                #expect(!line.contains(word), "\(file):\(number + 1) contains \(word)")
            }
        }
    }

    @Test("Rooms that decide need no unsafe memory", arguments: Repository.swift.filter { $0.room != nil })
    func unsafeMemory(_ file: Repository.File) {
        guard let room = file.room, ["CostModel", "Router", "Simulation", "Telemetry", "Autoscaling"].contains(room)
        else { return }
        for (number, line) in file.lines.enumerated() where !line.contains("//") {
            let words = line.split { !$0.isLetter && $0 != "_" }
            #expect(!words.contains("unsafe"), "\(file):\(number + 1)")
        }
    }

    @Test("Every metric is documented")
    func metrics() throws {
        let documented = Repository.files(in: ["docs"], extensions: ["md"]).first { $0.path == "docs/metrics.md" }
        let text = try #require(documented).lines.joined(separator: "\n")
        let sources = Repository.swift.filter { $0.room == "Telemetry" }
        let names = sources.flatMap { file in
            file.lines.flatMap { line in
                line.split(separator: "\"").filter { part in
                    part.hasPrefix("epp_pd_") && part.allSatisfy { $0.isLowercase || $0 == "_" }
                }
            }
        }
        for name in Set(names).sorted() { #expect(text.contains(name), "\(name) is not in docs/metrics.md") }
    }

    @Test("An unchecked claim to the compiler has its argument written above it", arguments: Repository.swift)
    func argumentsAreWritten(_ file: Repository.File) {
        for (number, line) in file.lines.enumerated() {
            guard !line.trimmingPrefix(while: \.isWhitespace).hasPrefix("//") else { continue }
            guard line.contains("@unchecked " + "Sendable") || line.contains("nonisolated(" + "unsafe)") else {
                continue
            }
            let above = file.lines[..<number].reversed().first {
                !$0.trimmingPrefix(while: \.isWhitespace).hasPrefix("@")
            }
            let isComment = above?.trimmingPrefix(while: \.isWhitespace).hasPrefix("//") ?? false
            #expect(isComment, "\(file):\(number + 1) says why nowhere")
        }
    }

    /// A question, not a law: raise it with the reason beside it.
    static let longestFile = 500

    @Test("Files hold one idea each", arguments: Repository.swift)
    func length(_ file: Repository.File) {
        #expect(file.lines.count <= Self.longestFile, "\(file) has \(file.lines.count) lines")
    }

    @Test("Every profile says where its numbers come from")
    func provenance() throws {
        let profiles = Repository.files(in: ["profiles"], extensions: ["yaml", "json"])
        for profile in profiles {
            #expect(profile.lines.contains { $0.contains("source") || $0.contains("provenance") }, "\(profile)")
        }
    }

    @Test("Decisions are at most a page", arguments: Repository.files(in: ["docs/decisions"], extensions: ["md"]))
    func decisions(_ file: Repository.File) {
        #expect(file.lines.count <= 60, "\(file)")
        #expect(
            file.lines.first?.hasPrefix("# \(file.path.split(separator: "/").last?.prefix(4) ?? "") ") == true,
            "\(file) begins with its number"
        )
    }
}
