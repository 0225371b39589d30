// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel
import Foundation

/// `epp-pd validate`: reads files as `serve` would, and says everything that is wrong with them.
struct Validate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check a configuration, a fleet file and profiles: every error with file, line, key path.",
        discussion: """
            Errors go to standard error, one a line, as file:line:column: key path: what is wrong and what is allowed. \
            Warnings name what would be estimated or could not serve. Exit code: 0 without errors, 2 with.

            EXAMPLES
              epp-pd validate --fleet fleet.yaml
              epp-pd validate --fleet fleet.yaml --config config.yaml --profiles my-profiles --json
              epp-pd validate --live --fleet fleet.yaml --envoy-admin http://127.0.0.1:9901
              epp-pd validate --live --pool-name llama-decode --pool-name llama-prefill --probe
            """
    )

    @Option(help: "Fleet file (docs/fleet-file.md).")
    var fleet: String?
    @Option(help: "Configuration file (docs/configuration.md).")
    var config: String?
    @Option(help: "Folder of profiles. Default: the ones that come with epp-pd.")
    var profiles: String?
    @Flag(help: "The fleet is for the simulator: addresses and ports may be absent.")
    var simulated = false
    @Flag(help: "Print one JSON object instead of text.")
    var json = false

    @Flag(help: "Ask the pods of --fleet or of a cluster: reachable, metrics there, models served, KV events flowing.")
    var live = false
    @OptionGroup(title: "Pods of a cluster, with --live") var cluster: ClusterOptions
    @Option(help: "With --live: admin address of an Envoy whose limits are to be checked.")
    var envoyAdmin: String?
    @Option(help: "With --envoy-admin: requests that shall be able to run at the same time.")
    var streams = 4096
    @Option(help: "With --live: NAMESPACE/NAME of the Service for external metrics: is their place free, or its?")
    var externalMetricsService: String?
    @Flag(help: "With --live: send each pod that publishes KV events a prompt, to see some.")
    var probe = false
    @Option(help: "With --live: how long to listen for KV events.")
    var eventWait = DurationArgument("3s")
    @Option(help: "With --live: how long an answer may take.")
    var liveTimeout = DurationArgument("5s")

    func validate() throws {
        guard !live || fleet != nil || cluster.isGiven || envoyAdmin != nil || externalMetricsService != nil else {
            throw ValidationError(
                "--live needs --fleet, --pool-name, --endpoint-selector, --envoy-admin or --external-metrics-service"
            )
        }
        guard cluster.sources + (fleet == nil ? 0 : 1) <= 1 else {
            throw ValidationError("at most one of --fleet, --pool-name and --endpoint-selector may be given")
        }
        guard live || (envoyAdmin == nil && externalMetricsService == nil && !probe && !cluster.isGiven) else {
            throw ValidationError(
                "--pool-name, --endpoint-selector, --envoy-admin, --external-metrics-service and --probe come with --live"
            )
        }
        guard !live || !simulated else { throw ValidationError("a simulated fleet has no pods to ask") }
        guard liveTimeout.value > .zero, streams > 0 else {
            throw ValidationError("--live-timeout and --streams must be above 0")
        }
    }

    private var liveValidation: LiveValidation? {
        guard live else { return nil }
        return LiveValidation(
            timeout: liveTimeout.value,
            eventWait: eventWait.value,
            sendsProbe: probe,
            envoyAdmin: envoyAdmin,
            streams: streams,
            cluster: cluster,
            externalMetricsService: externalMetricsService
        )
    }

    func run() throws {
        let validation = Validation.run(
            fleet: fleet,
            config: config,
            profiles: profiles,
            isSimulated: simulated,
            live: liveValidation
        )
        if json {
            print(try JSONLine.encode(validation))
        } else {
            for warning in validation.warnings { Console.error("warning: \(warning)") }
            for error in validation.errors { Console.error(error.description) }
            for checked in validation.checked { print(checked) }
            for finding in validation.live ?? [] { print("\(finding.grade): \(finding.subject): \(finding.text)") }
        }
        let live = validation.live ?? []
        if !validation.errors.isEmpty || live.contains(where: { $0.grade == .error }) { throw ExitCode(2) }
    }
}
