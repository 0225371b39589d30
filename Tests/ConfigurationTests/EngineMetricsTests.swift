// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import Configuration

@Suite struct EngineMetricsTests {
    private func engines(_ text: String) throws(ConfigurationErrors) -> [EngineMetrics] {
        try PickerConfiguration.read(text: "engines: [\(text)]", file: "epp.yaml").engines
    }

    private func errors(_ text: String) -> [String] {
        do {
            _ = try engines(text)
            return []
        } catch {
            return error.errors.map { "\($0.keyPath): \($0.message)" }
        }
    }

    @Test func readsAnEngine() throws {
        let text = "{name: tgi, waiting: q, running: 'r{kind=a}', kvBlockSize: {metric: info, label: size}}"
        let expected = EngineMetrics(
            engine: "tgi",
            entries: [
                .init(.waiting, ["q"]),
                .init(.running, [MetricSelector("r", [.init("kind", "a")])]),
                .init(.kvBlockSize, [MetricSelector("info", source: .label("size"))]),
            ]
        )
        #expect(try engines(text) == [expected])
    }

    /// Every quantity has a key, and the documentation names it.
    @Test func everyQuantityHasAKey() throws {
        let series = EngineQuantity.allCases.map { "\($0.key): m_\($0.key)" }.joined(separator: ", ")
        #expect(try engines("{name: x, \(series)}").first?.entries.count == EngineQuantity.allCases.count)
    }

    @Test(arguments: [
        ("{waiting: q}", "engines[0].name: is required"),
        ("{name: x, preemptions: p}", "engines[0]: names none of waiting, running, kvUse"),
        ("{name: x, waiting: 'a b'}", "engines[0].waiting: must be a metric's name"),
        ("{name: x, waiting: {metric: a}}", "engines[0].waiting.label: is required"),
        ("{name: x, waiting: [a]}", "engines[0].waiting: must be a string"),
        ("{name: x, waiting: q, tokens: t}", "engines[0].tokens: unknown key"),
    ])
    func refuses(_ text: String, _ message: String) {
        let found = errors(text)
        #expect(found.count == 1)
        #expect(found.first?.hasPrefix(message) == true, "\(found)")
    }
}
