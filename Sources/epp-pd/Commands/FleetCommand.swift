// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel
import Dispatch
import Foundation
import Kubernetes
import Logging
import Synchronization

/// `epp-pd fleet`: the pods that a picker would serve, and what it concludes of each.
struct FleetCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fleet",
        abstract:
            "Show a cluster's pods as the picker sees them: what was concluded of each, from where, what is missing.",
        discussion: """
            Reads the cluster once. What servers say of themselves (/v1/models, metrics) is not asked for here: \
            /debug/fleet of a running picker shows it too. Exit code: 0, 1 where the cluster cannot be read.

            EXAMPLES
              epp-pd fleet --pool-name llama-decode --pool-name llama-prefill --pool-namespace serving
              epp-pd fleet --endpoint-selector app=vllm --endpoint-target-ports 8000 --json
            """
    )

    @OptionGroup var cluster: ClusterOptions
    @Option(help: "Configuration file (docs/configuration.md): its pools fill in what pods do not say.")
    var config: String?
    @Option(help: "How long to wait for the cluster.")
    var timeout = DurationArgument("10s")
    @Flag(help: "Print one JSON object instead of text.")
    var json = false

    func validate() throws {
        guard cluster.sources == 1 else {
            throw ValidationError("exactly one of --pool-name and --endpoint-selector must be given")
        }
    }

    private struct Page: Encodable {
        var pods: [PodConclusion]
        var trouble: String?
    }

    func run() throws {
        let configuration = try config.map(Self.readConfiguration) ?? PickerConfiguration()
        let client = try cluster.client()
        guard let (state, trouble) = ClusterReading.read(cluster, client, timeout: timeout.value) else {
            throw ExitCode(1)
        }
        let map = PodMapping.map(state, configuration.pools)
        if json {
            print(try JSONLine.encode(Page(pods: map.pods, trouble: trouble)))
        } else {
            if let trouble { Console.error(trouble) }
            print(Self.text(map.pods))
        }
    }

    private static func readConfiguration(_ path: String) throws -> PickerConfiguration {
        do {
            return try PickerConfiguration.read(path: path)
        } catch {
            Console.error(error.description)
            throw ExitCode(2)
        }
    }

    private static func text(_ pods: [PodConclusion]) -> String {
        guard !pods.isEmpty else { return "no pods" }
        return pods.map { pod in
            var lines = ["\(pod.namespace)/\(pod.name)  pool \(pod.pool)  role \(pod.role)  \(pod.state.rawValue)"]
            var table = TextTable([("  field", .left), ("value", .left), ("from", .left)])
            for fact in pod.facts { table.add(["  " + fact.field, fact.value, fact.from.rawValue]) }
            if !pod.facts.isEmpty { lines.append(table.rendered()) }
            if !pod.missing.isEmpty { lines.append("  missing: " + pod.missing.joined(separator: ", ")) }
            lines += pod.problems.map { "  problem: \($0)" }
            return lines.joined(separator: "\n")
        }
        .joined(separator: "\n\n")
    }
}

/// One look at a cluster, for commands that do not stay.
final class ClusterReading: Sendable {
    private let state = Mutex<ClusterState?>(nil)
    private let isRead = DispatchSemaphore(value: 0)

    /// - Returns: nil where the cluster was not read in time; standard error says why.
    static func read(
        _ options: ClusterOptions,
        _ client: KubernetesClient,
        timeout: Seconds
    ) -> (state: ClusterState, trouble: String?)? {
        let reading = ClusterReading()
        var log = Logger(label: "epp-pd") { StreamLogHandler.standardError(label: $0) }
        // What is wrong is said at the end.
        log.logLevel = .critical
        let service = ClusterService(
            client: client,
            selection: options.selection(client),
            settings: options.settings,
            log: log
        ) { [reading] state in
            reading.state.withLock { $0 = state }
            reading.isRead.signal()
        }
        do {
            try service.start()
        } catch {
            Console.error("the cluster cannot be followed: the system gave no thread")
            return nil
        }
        let outcome = reading.isRead.wait(timeout: .now() + timeout.rawValue)
        let trouble = service.standing.trouble
        service.stop()
        guard outcome == .success, let state = reading.state.withLock({ $0 }) else {
            Console.error("the cluster was not read within \(timeout.rawValue) s: \(trouble ?? "it does not answer")")
            return nil
        }
        return (state, trouble)
    }
}
