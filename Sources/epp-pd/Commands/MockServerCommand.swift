// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel
import Dispatch
import Fleet
import Foundation
import Router

/// `epp-pd mock-server`: model servers that generate nothing, in the time that real ones would take.
struct MockServerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mock-server",
        abstract: "Play model servers whose timing follows a profile.",
        discussion: """
            Answers OpenAI completions and chat completions (JSON and SSE), /v1/models, /tokenize, /render, \
            /kv_event_sources, /health and /metrics as vLLM does. Pods whose entry has kvEvents publish them over ZeroMQ. Prompts are cut into pseudo-tokens of four bytes each; the output is filler, as long as the \
            request's token limit. Queue, continuous batching, KV capacity and the LRU prefix cache are simulated step \
            by step.

            A pod that gets x-prefiller-host-port has that pod compute the prompt first, then waits for the KV transfer, \
            as the sidecar of a decode pod does. A pod with kvPull that computes a prompt first fetches what the pod in \
            x-kv-cache-source-host-port holds of it and itself does not.

            Durations are those of the profile divided by --time-scale. All times in options and metrics are model time: \
            wall time multiplied by --time-scale.
            """
    )

    @Option(help: "Play every pod of this fleet file.")
    var fleet: String?
    @Option(help: "Play only this pod of the fleet file, or this entry's pods. May be repeated.")
    var only: [String] = []
    @Option(help: "Without --fleet: the port to listen on.")
    var port: UInt16 = 8000
    @Option(help: "Without --fleet: the address to listen on.")
    var address = "127.0.0.1"
    @Option(help: "Without --fleet: prefill, decode or both.")
    var role = Role.both
    @Option(help: "Without --fleet: the accelerator whose profile is played.")
    var accelerator = "h100-sxm"
    @Option(help: "Without --fleet: the model whose profile is played.")
    var model = "llama-3.1-8b"
    @Option(help: "Without --fleet: accelerators of the pod.")
    var tensorParallel = 1
    @Option(help: "Without --fleet: number format of the weights. Default: the model's native one.")
    var dtype: String?
    @Option(help: "Folder of profiles. Default: the ones that come with epp-pd.")
    var profiles: String?
    @Option(help: "Take this many times what the profile says: 1.4, or POD=1.4. May be repeated.")
    var skew: [PodOverride<Double>] = []
    @Option(help: "Log-deviation of every duration, e.g. 0.05: noise of about 5 %.")
    var jitter = 0.0
    @Option(help: "Answer /metrics this late, with a page that is this old: 200ms, or POD=200ms. May be repeated.")
    var metricsDelay: [PodOverride<DurationArgument>] = []
    @Option(help: "Run so many times faster than the profile.")
    var timeScale = 1.0
    @Option(help: "Longest prompt and output together, in tokens.")
    var maxModelLen = 131_072
    @Option(help: "Seed of the noise.")
    var seed: UInt64 = 1

    mutating func validate() throws {
        guard timeScale.isFinite, timeScale > 0, timeScale <= 1000 else {
            throw ValidationError("--time-scale must be above 0 and at most 1000")
        }
        guard jitter.isFinite, (0...1).contains(jitter) else { throw ValidationError("--jitter must be from 0 to 1") }
        guard skew.allSatisfy({ $0.value.isFinite && (0.01...100).contains($0.value) }) else {
            throw ValidationError("--skew must be from 0.01 to 100")
        }
    }

    func run() throws {
        let signals = Signals([SIGTERM])
        let fleet: MockFleet
        do {
            fleet = try mockFleet()
        } catch let errors as ConfigurationErrors {
            Console.error("\(errors)")
            throw ExitCode(2)
        } catch let error as ZMQError {
            Console.error("a pod's KV events cannot be published: \(error)")
            throw ExitCode(1)
        }
        try signals.start { Self.exit() }
        let lines = fleet.pods.map { "mock-server: \($0.name) (\($0.role.rawValue)) on \($0.hostPort)\n" }
        FileHandle.standardOutput.write(Data(lines.joined().utf8))
        Task {
            do {
                try await MockServer(fleet: fleet).run()
                Self.exit()
            } catch {
                Self.exit(withError: error)
            }
        }
        dispatchMain()
    }

    private func descriptions() throws -> [EndpointDescription] {
        guard let fleet else {
            return [
                EndpointDescription(
                    name: "mock",
                    role: role,
                    accelerator: accelerator,
                    model: model,
                    address: address,
                    port: port,
                    tensorParallel: max(tensorParallel, 1),
                    dtype: dtype
                )
            ]
        }
        let all = try FleetFile.read(path: fleet, options: FleetFile.Options(takesAnyEngine: true))
        let chosen = only.isEmpty ? all : all.filter { pod in only.contains { PodName.matches($0, pod.name) } }
        guard !chosen.isEmpty else { throw ValidationError("no pod of \(fleet) is named so: \(only)") }
        return chosen
    }

    private func mockFleet() throws -> MockFleet {
        guard let folder = ProfileFolder.find(flag: profiles) else {
            throw ValidationError("no folder of profiles: name one with --profiles")
        }
        let catalog = try ProfileLoader.load(folder: folder)
        let clock = ModelClock(scale: timeScale)
        let pods = try descriptions().enumerated().map { index, description in
            try MockPod(
                description,
                catalog: catalog,
                clock: clock,
                skew: PodOverride.last(of: skew, for: description.name) ?? 1,
                jitter: jitter,
                metricsDelay: PodOverride.last(of: metricsDelay, for: description.name)?.value ?? .zero,
                maximumLength: maxModelLen,
                seed: seed &+ UInt64(index)
            )
        }
        return MockFleet(pods: pods, clock: clock, catalog: catalog)
    }
}

extension Role: ExpressibleByArgument {}
