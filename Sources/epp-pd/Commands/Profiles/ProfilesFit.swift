// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel
import Dispatch
import Fleet
import Foundation
import Synchronization

/// `epp-pd profiles fit`: measures a live server and writes its profile.
struct ProfilesFit: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fit",
        abstract: "Measure a live OpenAI-compatible server and write a profile entry.",
        discussion: """
            Sends a bounded, announced sequence of completions: prompts of growing length, cached prefixes, growing \
            batches. The server should be idle otherwise. Ctrl-C stops it; then nothing is written. The file goes into \
            the folder of profiles, under any name but those that are shipped there and outside fits/: there it takes \
            the place of a shipped fit of the same accelerator, model, parallelism, dtype and engine.
            Example: epp-pd profiles fit --endpoint http://10.0.0.7:8000 --model Qwen/Qwen3-8B --accelerator l40s
            A model or accelerator that no profile describes gets an entry of its own beside the fit: the model's from \
            --config, the accelerator's from --memory-gb, --memory-gbps and --tflops, or with figures that are marked as \
            assumed. Without a model's entry no other parallelism can be estimated from the fit.
            Exit codes: 0, 1 when the server could not be measured, 2 wrong usage, 130 when stopped.
            """
    )

    @OptionGroup var profiles: ProfileOptions
    @Option(help: "The server: http://HOST:PORT")
    var endpoint: String
    @Option(help: "The model as the server calls it.")
    var model: String
    @Option(help: "Its accelerator.")
    var accelerator: String
    @Option(name: [.customLong("tp"), .long], help: "Accelerators of the server.")
    var tensorParallel = 1
    @Option(help: "Number format of the weights. Default: as the model's name says, else its native one.")
    var dtype: String?
    @Option(help: "Name of the engine in the entry.")
    var engine = "vllm"
    @Option(help: "The file to write. Default: ACCELERATOR-MODEL-tpN-DTYPE.yaml here.")
    var output: String?
    @Option(help: "Longest prompt, in tokens.")
    var maxPrompt = 16384
    @Option(help: "Most requests at the same time.")
    var maxConcurrency = 64
    @Option(help: "Most tokens of KV at the same time: below the server's cache.")
    var maxKvTokens = 100_000
    @Option(help: "Tokens that each sequence of a batch generates.")
    var outputTokens = 64
    @Option(help: "Times that each prefill is measured; the median counts.")
    var repeats = 3
    @Option(help: "Environment variable that holds the API key.")
    var keyVariable = "OPENAI_API_KEY"
    @Option(help: "The server runs so many times faster than its profile (mock servers).")
    var timeScale = 1.0
    @Option(help: "Seed of the prompts. Default: drawn at random, so that no server has seen them.")
    var seed: UInt64?
    @Option(help: "The model's config.json, for a model that no profile describes.")
    var config: String?
    @Option(name: .customLong("memory-gb"), help: "Memory of an accelerator that no profile describes, 10^9 bytes.")
    var memory: Double?
    @Option(name: .customLong("memory-gbps"), help: "Its memory's bandwidth, 10^9 bytes per second.")
    var memoryBandwidth: Double?
    @Option(help: "Its dense bfloat16 operations per second, 10^12.")
    var tflops: Double?
    @Option(help: "Its dollars per hour.")
    var pricePerHour: Double?
    @Flag(help: "Print the result as one JSON object on one line.")
    var json = false

    func validate() throws {
        guard endpoint.hasPrefix("http://") || endpoint.hasPrefix("https://") else {
            throw ValidationError("--endpoint must begin with http:// or https://")
        }
        guard (1...1024).contains(tensorParallel) else { throw ValidationError("--tp must be from 1 to 1024") }
        guard (256...1_000_000).contains(maxPrompt) else {
            throw ValidationError("--max-prompt must be from 256 to 1000000")
        }
        guard (4...256).contains(maxConcurrency) else {
            throw ValidationError("--max-concurrency must be from 4 to 256")
        }
        guard (1000...100_000_000).contains(maxKvTokens) else {
            throw ValidationError("--max-kv-tokens must be from 1000 to 100000000")
        }
        guard (16...4096).contains(outputTokens) else {
            throw ValidationError("--output-tokens must be from 16 to 4096")
        }
        guard (1...20).contains(repeats) else { throw ValidationError("--repeats must be from 1 to 20") }
        guard timeScale > 0, timeScale <= 1000 else {
            throw ValidationError("--time-scale must be above 0 and at most 1000")
        }
        for (name, value, range) in [
            ("memory-gb", memory, 1.0...10_000), ("memory-gbps", memoryBandwidth, 10...200_000),
            ("tflops", tflops, 1...200_000), ("price-per-hour", pricePerHour, 0...1000),
        ] {
            if let value, !range.contains(value) {
                throw ValidationError("--\(name) must be from \(range.lowerBound) to \(range.upperBound)")
            }
        }
        if let dtype, !WeightDtype.isAccepted(dtype) {
            throw ValidationError("--dtype must be bfloat16, fp8, fp4 or int4, not \(dtype)")
        }
    }

    private final class Stop: Sendable {
        let flag = Atomic(false)
    }

    /// Longer than the longest prompt takes on the slowest accelerator.
    private static let timeout = Seconds(600)
    /// A fit that is further off in the mean is none: the server was busy, or did not do what it was asked.
    private static let greatestError = 0.25

    func run() throws {
        let catalog = try profiles.catalog()
        // Read first: nobody should measure for minutes to hear of a typing error.
        let stubs = try FitStubs(self, catalog)
        let plan = ProbePlan(
            longestPrompt: maxPrompt,
            largestBatch: maxConcurrency,
            mostKV: maxKvTokens,
            repeats: repeats,
            outputTokens: outputTokens
        )
        let seed = seed ?? UInt64.random(in: 1...UInt64(UInt32.max))
        Console.error(
            "\(plan.requests) requests with about \(plan.promptTokens) prompt tokens follow, to \(endpoint), "
                + "seed \(seed); Ctrl-C stops"
        )
        let stop = Stop()
        let interrupts = watchInterrupts(stop)
        defer { interrupts.cancel() }
        let measurements: ServerProbe.Measurements
        let fit: ProfileFitting.Fit
        do {
            measurements = try measure(plan, seed: seed, stop)
            fit = try ProfileFitting.fit(prefills: measurements.prefills, decodes: measurements.decodes)
        } catch {
            // What a stopped measurement failed of does not matter.
            if stop.flag.load(ordering: .relaxed) { throw ExitCode(130) }
            Console.error("\(error)")
            throw ExitCode(1)
        }
        try check(fit)
        let entry = configuration(fit, measurements, catalog, stubs)
        try write(ProfileText.file(entry, models: stubs.models, accelerators: stubs.accelerators), entry)
        for note in stubs.notes { Console.error(note) }
        guard json else { return show(entry) }
        print(try JSONLine.encode(Report(entry)))
    }

    /// The first Ctrl-C gives up the requests under way, which cancels them at the server; a second one does not wait.
    private func watchInterrupts(_ stop: Stop) -> any DispatchSourceSignal {
        signal(SIGINT, SIG_IGN)
        let interrupts = DispatchSource.makeSignalSource(signal: SIGINT, queue: .global())
        interrupts.setEventHandler {
            if stop.flag.exchange(true, ordering: .relaxed) { Foundation.exit(130) }
            Console.error("stopping; nothing is written")
        }
        interrupts.resume()
        return interrupts
    }

    private func measure(_ plan: ProbePlan, seed: UInt64, _ stop: Stop) throws -> ServerProbe.Measurements {
        var server = ServerProbe(
            probe: CompletionProbe(
                url: endpoint + (endpoint.hasSuffix("/") ? "" : "/") + "v1/completions",
                model: model,
                key: ProcessInfo.processInfo.environment[keyVariable],
                clock: ModelClock(scale: timeScale),
                timeout: Self.timeout,
                isStopped: { stop.flag.load(ordering: .relaxed) }
            ),
            plan: plan,
            seed: seed
        )
        let measurements = try server.run { Console.error($0) }
        guard !stop.flag.load(ordering: .relaxed) else { throw ExitCode(130) }
        for problem in server.problems { Console.error("left out: \(problem)") }
        if let problem = measurements.cacheProblem { throw CompletionProbe.Failure(description: problem) }
        return measurements
    }

    private func check(_ fit: ProfileFitting.Fit) throws {
        for (phase, error) in [("prefill", fit.prefillError), ("decode", fit.decodeError)] {
            guard error > Self.greatestError || !error.isFinite else { continue }
            Console.error(
                "the fit of \(phase) is off by \(Numbers.fixed(error * 100, 0)) % where a measurement is left out, more "
                    + "than \(Numbers.fixed(Self.greatestError * 100, 0)) %: nothing is written. Was the server idle?"
            )
            throw ExitCode(1)
        }
    }

    private func configuration(
        _ fit: ProfileFitting.Fit,
        _ measurements: ServerProbe.Measurements,
        _ catalog: ProfileCatalog,
        _ stubs: FitStubs
    ) -> FittedConfiguration {
        let native = dtype == nil && ModelName(model).dtype == nil ? stubs.models.first?.nativeDtype : nil
        let day = ISO8601DateFormatter().string(from: Date()).prefix(10)
        return FittedConfiguration(
            accelerator: catalog.acceleratorName(accelerator),
            model: catalog.modelName(model),
            tensorParallel: tensorParallel,
            dtype: native ?? catalog.weightDtype(dtype, model: model),
            engine: engine,
            prefill: fit.prefill,
            decode: fit.decode,
            mixed: fit.mixed,
            prefillError: fit.prefillError,
            decodeError: fit.decodeError,
            mixedError: max(fit.prefillError, fit.decodeError),
            provenance:
                "epp-pd profiles fit, \(day): \(measurements.prefills.count) prefills and "
                + "\(measurements.decodes.count) batches on a live server that calls it \(model)",
            isEndToEnd: true,
            ttftOverhead: fit.ttftOverhead
        )
    }

    private func write(_ text: String, _ entry: FittedConfiguration) throws {
        let name = "\(entry.accelerator)-\(entry.model)-tp\(entry.tensorParallel)-\(entry.dtype.rawValue).yaml"
        let path = output ?? name
        do {
            // What is written must be readable: the loader judges it first.
            _ = try ProfileLoader.read(text: text, file: path)
            try Data(text.utf8).write(to: URL(filePath: path), options: .atomic)
            Console.error("written: \(path)")
        } catch {
            Console.error("\(path): \(error)")
            throw ExitCode(1)
        }
    }

    private struct Report: Encodable {
        var accelerator: String
        var model: String
        var tp: Int
        var dtype: String
        var prefill: PrefillCoefficients
        var decode: DecodeCoefficients
        var ttft_overhead_ms: Double
        var prefill_error: Double
        var decode_error: Double

        init(_ entry: FittedConfiguration) {
            accelerator = entry.accelerator
            model = entry.model
            tp = entry.tensorParallel
            dtype = entry.dtype.rawValue
            prefill = entry.prefill
            decode = entry.decode
            ttft_overhead_ms = entry.ttftOverhead?.milliseconds ?? 0
            prefill_error = entry.prefillError
            decode_error = entry.decodeError
        }
    }

    private func show(_ entry: FittedConfiguration) {
        print(
            """
            \(entry.label)
              prefill  error \(Numbers.fixed(entry.prefillError * 100, 1)) %, \
            \(Numbers.fixed(entry.prefill.perTokenAboveKnee * 1e6, 2)) ms per 1000 tokens
              decode   error \(Numbers.fixed(entry.decodeError * 100, 1)) %, \
            \(Numbers.fixed(entry.decode.base * 1e3, 2)) ms per step, \
            \(Numbers.fixed(entry.decode.perKVToken * 1e9, 1)) ms per 10^6 KV tokens
              fixed    \(Numbers.milliseconds(entry.ttftOverhead?.rawValue ?? 0)) ms before the first token
            """
        )
    }
}
