// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Dispatch
import Fleet
import Foundation
import Synchronization

/// Asks each pod of a fleet what the picker will ask it: its metrics and its models.
struct LivePods {
    /// What load is known by: without one of these an engine's pod is judged by the picker's own requests alone.
    static let load: [EngineQuantity] = [.waiting, .running, .kvUse]

    private struct Engine {
        var metrics: EngineMetrics
        var table: MetricNameTable
    }

    private let timeout: Seconds
    private let engines: [String: Engine]

    init(engines configured: [EngineMetrics], timeout: Seconds) {
        self.timeout = timeout
        var engines: [String: Engine] = [:]
        for metrics in EngineMetrics.builtIn + configured {
            engines[metrics.engine] = Engine(metrics: metrics, table: MetricNameTable(metrics))
        }
        self.engines = engines
    }

    /// In the order of the pods; many are asked at a time.
    func findings(of pods: [EndpointDescription]) -> [LiveFinding] {
        let found = Mutex<[[LiveFinding]]>(Array(repeating: [], count: pods.count))
        DispatchQueue.concurrentPerform(iterations: pods.count) { index in
            let findings = findings(of: pods[index])
            found.withLock { $0[index] = findings }
        }
        return found.withLock { $0.flatMap(\.self) }
    }

    private func findings(of pod: EndpointDescription) -> [LiveFinding] { [metrics(of: pod)] + models(of: pod) }

    private func metrics(of pod: EndpointDescription) -> LiveFinding {
        let url = LivePage.url(pod.address, pod.metrics.port, pod.metrics.path)
        guard let engine = engines[pod.engine] else {
            return .error(pod.name, "nothing is known of the metrics of the engine \(pod.engine)")
        }
        switch LivePage.get(url, timeout: timeout) {
        case .failure(let failure): return .error(pod.name, "\(url): \(LivePage.text(of: failure))")
        case .success(let answer) where answer.status != 200:
            return .error(pod.name, "\(url): \(LivePage.text(of: .status(answer.status)))")
        case .success(let answer):
            var scanner = MetricsPageScanner(engine.table)
            scanner.consume(answer.body.span)
            return Self.judge(scanner.finish(), engine.metrics, of: pod, at: url)
        }
    }

    static func judge(
        _ page: EngineObservation,
        _ metrics: EngineMetrics,
        of pod: EndpointDescription,
        at url: String
    ) -> LiveFinding {
        let wanted = metrics.entries.map(\.quantity)
        let missing = wanted.filter { page[$0] == nil }
        let missingLoad = missing.filter(load.contains)
        let names = missing.map(\.key).joined(separator: ", ")
        if missing.count == wanted.count {
            return .error(pod.name, "\(url): none of \(metrics.engine)'s metrics: is it another engine?")
        }
        guard missingLoad.isEmpty else {
            return .error(pod.name, "\(url): metrics of \(metrics.engine) are missing: \(names)")
        }
        guard missing.isEmpty else {
            // Counters without samples come with the first request.
            return .warning(pod.name, "\(url): no \(names) yet; an engine that has served requests should have them")
        }
        return .ok(pod.name, "\(url): all \(wanted.count) metrics of \(metrics.engine)")
    }

    private struct ModelList: Decodable {
        struct Model: Decodable { var id: String }
        var data: [Model]
    }

    /// The names that a server serves; where it does not say, why.
    static func models(at pod: EndpointDescription, timeout: Seconds) -> (models: [String]?, failure: String) {
        let url = LivePage.url(pod.address, pod.port, "/v1/models")
        switch LivePage.get(url, timeout: timeout) {
        case .failure(let failure): return (nil, "\(url): \(LivePage.text(of: failure))")
        case .success(let answer):
            guard answer.status == 200, let list = try? JSONDecoder().decode(ModelList.self, from: Data(answer.body))
            else { return (nil, "\(url): no list of models (status \(answer.status))") }
            return (list.data.map(\.id), "")
        }
    }

    private func models(of pod: EndpointDescription) -> [LiveFinding] {
        let (models, failure) = Self.models(at: pod, timeout: timeout)
        guard let served = models else { return [.error(pod.name, failure)] }
        let missing = (pod.servedModels ?? [pod.model]).filter { !served.contains($0) }
        guard missing.isEmpty else {
            let (there, absent) = (served.joined(separator: ", "), missing.joined(separator: ", "))
            return [.warning(pod.name, "serves \(there), and not \(absent): name them in servedModels")]
        }
        return [.ok(pod.name, "serves \(served.joined(separator: ", "))")]
    }
}
