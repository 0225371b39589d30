// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation
import Router
import Telemetry
import TestSupport
import Testing

@Suite struct MetricsPageTests {
    private static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// `UPDATE_GOLDEN=1 swift test` writes it anew; the difference is reviewed like code.
    @Test func isTheGoldenPage() throws {
        let page = Scene.busyMetrics().page(Scene.samples())
        let golden = fixture("golden/metrics.txt")
        if ProcessInfo.processInfo.environment["UPDATE_GOLDEN"] == "1" {
            try page.write(to: golden, atomically: true, encoding: .utf8)
        }
        let expected = try String(contentsOf: golden, encoding: .utf8)
        #expect(page.split(separator: "\n") == expected.split(separator: "\n"))
    }

    @Test func everyFamilyIsOnThePageOnceAndInOrder() {
        let page = Scene.busyMetrics().page(Scene.samples())
        let heads = page.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }
        let expected = MetricFamilies.all.map { "# TYPE \($0.name) \($0.kind.rawValue)" }
        #expect(heads.map(String.init) == expected)
    }

    @Test func namesFollowTheRules() {
        var names: Set<String> = []
        for family in MetricFamilies.all {
            #expect(names.insert(family.name).inserted, "\(family.name) twice")
            // The second prefix is the Inference Extension's.
            #expect(family.name.hasPrefix("epp_pd_") || family.name.hasPrefix("inference_pool_"))
            #expect(family.name.hasSuffix("_total") == (family.kind == .counter), "\(family.name)")
            #expect(family.help.hasSuffix("."), "\(family.name)")
            #expect(!family.help.contains("\n"))
        }
    }

    /// promtool's own opinion, where it can be had: EPP_PD_PROMTOOL, or .tools/promtool that scripts/setup brings.
    static let promtool: String? = {
        let named = ProcessInfo.processInfo.environment["EPP_PD_PROMTOOL"]
        let path = named ?? root.appending(path: ".tools/promtool").path
        return FileManager.default.isExecutableFile(atPath: path) ? path : nil
    }()

    @Test(.enabled(if: promtool != nil, "needs promtool: run scripts/setup, or set EPP_PD_PROMTOOL"))
    func promtoolFindsNothing() throws {
        let path = try #require(Self.promtool)
        for page in [Scene.busyMetrics().page(Scene.samples()), Metrics().page(MetricSamples())] {
            let process = Process()
            process.executableURL = URL(filePath: path)
            process.arguments = ["check", "metrics"]
            let input = Pipe()
            let output = Pipe()
            process.standardInput = input
            process.standardOutput = output
            process.standardError = output
            try process.run()
            try input.fileHandleForWriting.write(contentsOf: Data(page.utf8))
            try input.fileHandleForWriting.close()
            let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            #expect(process.terminationStatus == 0, "\(said)")
            #expect(said.isEmpty, "\(said)")
        }
    }

    @Test func theDocumentationNamesEveryMetric() throws {
        let file = Self.root.appending(path: "docs/metrics.md")
        var text = try String(contentsOf: file, encoding: .utf8)
        let rows = MetricFamilies.all.map { family in
            let labels = family.labels.map { "`\($0)`" }.joined(separator: ", ")
            return "| `\(family.name)` | \(family.kind.rawValue) | \(labels) | \(family.help) |"
        }
        if ProcessInfo.processInfo.environment["UPDATE_GOLDEN"] == "1" {
            let lines = text.components(separatedBy: "\n")
            let head = lines.prefix { !Self.isRow($0) }
            let tail = lines.dropFirst(head.count).drop(while: Self.isRow)
            text = (Array(head) + rows + Array(tail)).joined(separator: "\n")
            try text.write(to: file, atomically: true, encoding: .utf8)
        }
        let documented = text.components(separatedBy: "\n").filter(Self.isRow)
        #expect(documented == rows)
    }

    private static func isRow(_ line: String) -> Bool {
        line.hasPrefix("| `epp_pd_") || line.hasPrefix("| `inference_pool_")
    }

    private func value(_ series: String, _ metrics: Metrics) -> Double? {
        for line in metrics.page(MetricSamples()).split(separator: "\n") where line.hasPrefix(series + " ") {
            return Double(line.dropFirst(series.count + 1))
        }
        return nil
    }

    private let decodeGroup = #"{pool="default",role="decode",accelerator="h200-sxm"}"#
    private let prefillGroup = #"{pool="default",role="prefill",accelerator="h100-sxm"}"#

    @Test func gaugesReturnToZero() {
        let metrics = Scene.busyMetrics()
        #expect(value("epp_pd_requests_in_flight", metrics) == 1)
        #expect(value("epp_pd_tokens_in_flight", metrics) == 500)
        #expect(value("epp_pd_pool_requests_in_flight\(decodeGroup)", metrics) == 1)
        #expect(value("epp_pd_pool_prefill_tokens_in_flight\(decodeGroup)", metrics) == 500)
        metrics.ended(RequestID(4), Outcome(kind: .cancelled), at: Instant(14))
        #expect(value("epp_pd_requests_in_flight", metrics) == 0)
        #expect(value("epp_pd_tokens_in_flight", metrics) == 0)
        #expect(value("epp_pd_pool_requests_in_flight\(decodeGroup)", metrics) == 0)
        #expect(value("epp_pd_pool_prefill_tokens_in_flight\(decodeGroup)", metrics) == 0)
        #expect(value("epp_pd_pool_prefill_tokens_in_flight\(prefillGroup)", metrics) == 0)
    }

    /// Events in any order, twice, and for unknown requests: in the end nothing is in flight.
    @Test func strayEventsLeaveNothingBehind() {
        let metrics = Metrics()
        metrics.fleetChanged(Scene.snapshot)
        let id = RequestID(1)
        metrics.firstToken(id, at: Instant(1))
        metrics.dispatched(id, Scene.decision(Scene.pair))
        metrics.ended(id, Outcome(kind: .completed), at: Instant(1))
        metrics.arrived(Scene.request(1), at: Instant(1))
        metrics.firstToken(id, at: Instant(1))
        metrics.dispatched(id, Scene.decision(Scene.pair))
        metrics.dispatched(id, Scene.decision(Scene.pair))
        metrics.firstToken(id, at: Instant(2))
        metrics.firstToken(id, at: Instant(3))
        metrics.fleetChanged(FleetSnapshot(version: 2, endpoints: [], modelListsAreFresh: false))
        metrics.ended(id, Outcome(kind: .failed, status: 500), at: Instant(4))
        metrics.ended(id, Outcome(kind: .failed, status: 500), at: Instant(4))
        metrics.refused(id, .noEndpoint(reason: "x"))
        #expect(value("epp_pd_requests_in_flight", metrics) == 0)
        #expect(value("epp_pd_tokens_in_flight", metrics) == 0)
        #expect(value("epp_pd_pool_requests_in_flight\(decodeGroup)", metrics) == 0)
        #expect(value("epp_pd_pool_prefill_tokens_in_flight\(prefillGroup)", metrics) == 0)
    }

    @Test func observedTimesAreThoseOfStreams() {
        let metrics = Scene.busyMetrics()
        #expect(value("epp_pd_ttft_seconds_sum\(prefillGroup)", metrics).map { abs($0 - 0.6) < 1e-9 } == true)
        #expect(value("epp_pd_tpot_seconds_sum\(decodeGroup)", metrics).map { abs($0 - 0.02) < 1e-9 } == true)
        // An answer in one piece has a first byte, but no time to first token.
        metrics.arrived(Scene.request(9, streams: false), at: Instant(20))
        metrics.dispatched(RequestID(9), Scene.decision(Scene.pair))
        metrics.firstToken(RequestID(9), at: Instant(25))
        metrics.ended(RequestID(9), Outcome(kind: .completed, outputTokens: 50), at: Instant(25))
        #expect(value("epp_pd_ttft_seconds_count\(prefillGroup)", metrics) == 1)
        #expect(value("epp_pd_tpot_seconds_count\(decodeGroup)", metrics) == 1)
        #expect(value("epp_pd_request_duration_seconds_count\(decodeGroup)", metrics) == 2)
    }

    @Test func modelsOfClientsGetNoLabel() {
        let metrics = Metrics()
        metrics.fleetChanged(Scene.snapshot)
        for id in 0..<1000 {
            metrics.arrived(Scene.request(UInt64(id), model: "invented-\(id)"), at: Instant(1))
            metrics.ended(RequestID(UInt64(id)), Outcome(kind: .cancelled), at: Instant(2))
        }
        #expect(value(#"epp_pd_requests_total{model="other",outcome="cancelled"}"#, metrics) == 1000)
        #expect(!metrics.page(MetricSamples()).contains("invented"))
    }

    @Test func labelsAreBounded() {
        let metrics = Metrics()
        let names = (0..<500).map { "model-\($0)" }
        let endpoints = (0..<300).map { number in
            EndpointStatus(endpoint: Scene.endpoint(UInt32(number), .both, "gpu-\(number)", models: names))
        }
        metrics.fleetChanged(FleetSnapshot(version: 1, endpoints: endpoints, modelListsAreFresh: true))
        let lines = metrics.page(MetricSamples()).split(separator: "\n")
        #expect(lines.count { $0.hasPrefix("epp_pd_prompt_tokens_total") } == 201)
        #expect(lines.count { $0.hasPrefix("epp_pd_pool_endpoints{") } == 129)
        let rest = #"epp_pd_pool_endpoints{pool="other",role="other",accelerator="other"}"#
        #expect(value(rest, metrics) == 172)
    }

    @Test func impossibleNumbersPoisonNothing() {
        let metrics = Metrics()
        metrics.fleetChanged(Scene.snapshot)
        metrics.decided(Seconds(.nan))
        metrics.arrived(Scene.request(1), at: Instant(1))
        var decision = Scene.decision(Scene.pair, ttft: .nan, tpot: .infinity)
        decision.predictedDollars = Dollars(.nan)
        metrics.dispatched(RequestID(1), decision)
        metrics.firstToken(RequestID(1), at: Instant(2))
        let outcome = Outcome(kind: .completed, promptTokens: -5, cachedTokens: Int.max, outputTokens: Int.min)
        metrics.ended(RequestID(1), outcome, at: Instant(0))
        let page = metrics.page(MetricSamples())
        #expect(!page.contains("NaN"))
        #expect(!page.contains(" +Inf\n"))
        #expect(!page.contains(" -"))
    }
}
