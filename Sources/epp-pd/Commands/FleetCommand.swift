// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import Kubernetes

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
        let read: ClusterReading.Outcome
        do {
            read = try ClusterReading.read(cluster, client, timeout: timeout.value)
        } catch {
            Console.error(error.description)
            throw ExitCode(1)
        }
        let trouble = read.trouble
        let map = PodMapping.map(read.state, configuration.pools)
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
