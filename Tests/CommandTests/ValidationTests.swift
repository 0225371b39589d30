// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import Foundation
import Testing

@testable import epp_pd

@Suite struct ValidationTests {
    private static let profiles = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "profiles").path

    private func validate(_ text: String, isSimulated: Bool = false) throws -> Validation {
        let file = FileManager.default.temporaryDirectory.appending(path: "fleet-\(UUID().uuidString).yaml")
        try text.write(to: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(at: file) }
        return Validation.run(fleet: file.path, config: nil, profiles: Self.profiles, isSimulated: isSimulated)
    }

    private func pod(_ role: String, _ accelerator: String, port: Int = 8000) -> String {
        "{role: \(role), accelerator: \(accelerator), model: llama-3.1-70b, address: 127.0.0.1, port: \(port)}"
    }

    @Test func whatIsShippedIsInOrder() {
        let found = Validation.run(fleet: nil, config: nil, profiles: Self.profiles, isSimulated: false)
        #expect(found.errors.isEmpty)
        #expect(found.warnings.isEmpty)
        #expect(found.checked.count == 1)
    }

    @Test func aGoodFleet() throws {
        let found = try validate("endpoints: [\(pod("prefill", "H100_SXM")), \(pod("decode", "a100-sxm", port: 8001))]")
        #expect(found.errors.isEmpty)
        #expect(found.warnings.isEmpty)
        #expect(found.checked.last?.hasSuffix(": 2 endpoints") == true)
    }

    @Test func errorsNameTheirPlace() throws {
        let found = try validate("endpoints:\n  - role: none\n    accelerator: h100-sxm\n    model: m\n    size: 3\n")
        let texts = found.errors.map { "\($0.line ?? 0): \($0.keyPath)" }
        let expected = [
            "2: endpoints[0].address", "2: endpoints[0].port", "2: endpoints[0].role", "5: endpoints[0].size",
        ]
        #expect(texts == expected)
        #expect(found.checked.count == 1)
    }

    @Test func theSimulatorNeedsNoAddress() throws {
        let text = "endpoints: [{role: both, accelerator: h100-sxm, model: llama-3.1-8b}]"
        #expect(try validate(text).errors.count == 2)
        #expect(try validate(text, isSimulated: true).errors.isEmpty)
    }

    @Test func whatCouldNotServeIsAWarning() throws {
        let found = try validate("endpoints: [\(pod("prefill", "dreamchip-9"))]")
        #expect(found.errors.isEmpty)
        #expect(found.warnings.count == 2)
        #expect(found.warnings.contains { $0.contains("dreamchip-9") })
        #expect(found.warnings.contains { $0.contains("no endpoint can decode") })
    }

    @Test func missingFilesAndFoldersAreErrors() {
        let found = Validation.run(
            fleet: "/nonexistent.yaml",
            config: "/nonexistent.json",
            profiles: "/nonexistent",
            isSimulated: false
        )
        #expect(found.errors.map(\.file).contains("/nonexistent.yaml"))
        #expect(found.errors.map(\.file).contains("/nonexistent.json"))
        #expect(found.errors.count >= 3)
    }
}
