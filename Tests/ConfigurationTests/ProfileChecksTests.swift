// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Foundation
import TestSupport
import Testing

@Suite struct ProfileChecksTests {
    private static let model = "name: m, parameters: 40, layers: 32, hidden: 4096, heads: 32, kvHeads: 8, headDim: 128"

    @Test(arguments: [
        ("models: [{\(model), experts: [8, 2]}]", "experts need active"),
        ("models: [{\(model), active: 12}]", "active needs experts"),
        ("models: [{\(model), active: 12, experts: [8, 0]}]", "experts must be at least two"),
        ("models: [{\(model), active: 12, experts: [8, 9]}]", "experts must be at least two"),
        ("models: [{\(model), active: 12, experts: [1, 1]}]", "experts must be at least two"),
        ("models: [{\(model), active: 9, experts: [8, 2]}]", "parameters × 2/8"),
        ("models: [{\(model), windowed: [32, 0]}]", "window of at least one token"),
        ("models: [{\(model), aliases: [\"*\"]}]", "would match every name"),
        ("models: [{\(model), dtype: fp5}]", "bf16"),
        ("connectors: [{name: Unknown, fixedMs: 1}]", "must not be unknown"),
        ("prices: [{accelerator: x, usdPerHour: 1, date: banana, source: s}]", "must be a date"),
        ("prices: [{accelerator: x, usdPerHour: 1, date: 2026-13-01, source: s}]", "must be a date"),
    ])
    func refused(text: String, message: String) throws {
        let error = try #require(throws: ConfigurationErrors.self) {
            try ProfileLoader.read(text: text, file: "f.yaml")
        }
        #expect(error.errors.contains { $0.message.contains(message) && $0.line == 1 }, "\(error)")
    }

    @Test(arguments: [
        "models: [{\(model), active: 12, experts: [8, 2]}]", "models: [{\(model), dtype: BF16}]",
        "models: [{\(model), dtype: \"\"}]", "models: [{\(model), windowed: [0, 0]}]",
        "prices: [{accelerator: x, usdPerHour: 1, date: 2024-12, source: s}]",
        "prices: [{accelerator: x, usdPerHour: 1, date: unverified, source: s}]",
    ])
    func allowed(text: String) throws { _ = try ProfileLoader.read(text: text, file: "f.yaml") }

    private func errors(_ files: [String: String]) throws -> [ConfigurationError] {
        let folder = FileManager.default.temporaryDirectory.appending(path: "profiles-\(UUID())")
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for (name, text) in files { try Data(text.utf8).write(to: folder.appending(path: name)) }
        return ProfileChecks.errors(in: folder.path, try ProfileLoader.load(folder: folder.path))
    }

    private static let accelerator = "memoryGB: 80, memoryGBps: 2000, bf16: 300, usdPerHour: 1"

    @Test func namesOfNothing() throws {
        let own = """
            accelerators: [{name: x, \(Self.accelerator)}]
            prices: [{accelerator: y, usdPerHour: 1, date: 2026-01, source: s}]
            corrections:
              - {accelerator: z, engine: vllm, ttftOverheadMs: 1, provenance: p}
              - {accelerator: "*", engine: vllm, ttftOverheadMs: 1, provenance: p}
            efficiencies: [{accelerator: default}, {accelerator: w}]
            """
        let fit = ProfileLoaderTests.fit.replacingOccurrences(of: "accelerator: x", with: "accelerator: h100-smx")
        let found = try errors(["own.yaml": own, "fit.yaml": fit])
        #expect(
            found.map(\.message).sorted()
                == ["h100-smx", "w", "y", "z"].map { "no entry under accelerators describes \($0)" }
        )
        #expect(found.allSatisfy { $0.line != nil })
        #expect(
            try errors([
                "own.yaml": "accelerators: [{name: x, \(Self.accelerator)}]", "fit.yaml": ProfileLoaderTests.fit,
            ]).isEmpty
        )
    }

    @Test func oneNameOfTwoEntries() throws {
        let two = """
            accelerators:
              - {name: x, aliases: [shared-name], \(Self.accelerator)}
              - {name: y, aliases: [Shared_Name], \(Self.accelerator)}
            """
        let found = try errors(["own.yaml": two])
        #expect(found.count == 1 && found.first?.line == 3 && found.first?.message.contains("a name of x") == true)
        // A user's entry may take a shipped one's alias, and replace a shipped entry.
        let shipped = "accelerators: [{name: x, aliases: [shared-name], \(Self.accelerator)}]"
        let user = "accelerators: [{name: y, aliases: [shared-name, x], \(Self.accelerator)}]"
        #expect(try errors(["accelerators.yaml": shipped, "aaa.yaml": user]).isEmpty)
    }

    @Test func theShippedProfilesAreInOrder() throws {
        #expect(ProfileChecks.errors(in: shippedProfiles, try ProfileLoader.load(folder: shippedProfiles)).isEmpty)
    }
}
