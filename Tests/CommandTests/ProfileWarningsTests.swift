// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Fleet
import Foundation
import Logging
import Router
import Synchronization
import Testing

@testable import epp_pd

@Suite struct ProfileWarningsTests {
    /// Keeps what is logged.
    private final class Lines: LogHandler, Sendable {
        let written = Mutex<[String]>([])
        var metadata: Logger.Metadata {
            get { [:] }
            set { _ = newValue }
        }
        var logLevel: Logger.Level {
            get { .trace }
            set { _ = newValue }
        }

        subscript(metadataKey _: String) -> Logger.Metadata.Value? {
            get { nil }
            set { _ = newValue }
        }

        func log(event: LogEvent) {
            written.withLock { $0.append("\(event.level) \(event.message) \(event.metadata ?? [:])") }
        }
    }

    private func pod(_ accelerator: String, _ model: String, _ name: String) -> EndpointDescription {
        EndpointDescription(
            name: name,
            role: .both,
            accelerator: accelerator,
            model: model,
            address: "10.0.0.1",
            port: 8000
        )
    }

    @Test func saysItOnceOfEachName() throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "profiles").path
        let catalog = try ProfileLoader.load(folder: folder)
        let lines = Lines()
        let warnings = ProfileWarnings(log: Logger(label: "test") { _ in lines })
        for i in 0..<3 {
            warnings.check(pod("H100_SXM", "llama-3.1-8b", "known-\(i)"), catalog)
            warnings.check(pod("quantum-9", "llama-3.1-8b", "odd-\(i)"), catalog)
            warnings.check(pod("l40s", "nobody/has-seen-it", "new-\(i)"), catalog)
        }
        let written = lines.written.withLock { $0 }
        #expect(written.count == 2)
        #expect(written.allSatisfy { $0.hasPrefix("warning ") })
        #expect(written.first?.contains("quantum-9") == true && written.last?.contains("nobody/has-seen-it") == true)
        let unknown = catalog.endpoint(pod("quantum-9", "nobody/has-seen-it", "x"), id: EndpointID(1)).profile
        #expect(unknown.source == .unknown)
        #expect(unknown.prefill.duration(newTokens: 1, cachedTokens: 0) > .zero)
        #expect(unknown.decode.step(batch: 1, kvTokens: 0) > .zero)

        for i in 0..<1000 { warnings.check(pod("chip-\(i)x", "llama-3.1-8b", "p"), catalog) }
        #expect(lines.written.withLock { $0.count } == ProfileWarnings.maximumNames)
    }
}
