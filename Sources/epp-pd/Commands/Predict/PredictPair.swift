// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import CostModel

/// The decode side of a pair; what is not given is as on the prefill side.
struct PairOptions: ParsableArguments {
    @Option(help: "Accelerator of the decode pod. Default: as the prefill pod's.")
    var toAccelerator: String?
    @Option(help: "Accelerators of the decode pod. Default: as the prefill pod's.")
    var toTp: Int?
    @Option(help: "Number format of the decode pod's weights. Default: as the prefill pod's.")
    var toDtype: String?
    @Option(help: "KV connector. Default: unknown.")
    var connector: String?
    @Option(help: "What each transfer of this pair costs whatever its size, in ms. Default: the connector's.")
    var fixedMs: Double?

    func validate() throws {
        if let toTp, !(1...1024).contains(toTp) { throw ValidationError("--to-tp must be from 1 to 1024") }
        if let fixedMs, !(0...60_000).contains(fixedMs) {
            throw ValidationError("--fixed-ms must be from 0 to 60000")
        }
    }

    func receiver(of pod: PodOptions, _ catalog: ProfileCatalog) -> ProfileResolution {
        var query = pod.query()
        query.accelerator = toAccelerator ?? query.accelerator
        query.tensorParallel = toTp ?? query.tensorParallel
        query.dtype = toDtype ?? query.dtype
        query.connector = connector
        return catalog.resolve(query)
    }

    func sender(of pod: PodOptions, _ catalog: ProfileCatalog) -> ProfileResolution {
        var query = pod.query()
        query.connector = connector
        _ = pod.resolve(catalog)
        return catalog.resolve(query)
    }

    /// The pair's transfer; refused where the pods cannot exchange KV.
    func transfer(
        from sender: ProfileResolution,
        to receiver: ProfileResolution,
        _ catalog: ProfileCatalog
    ) throws -> KVTransfer {
        func layout(_ pod: ProfileResolution) -> KVLayout {
            KVLayout(
                model: pod.model,
                dtype: pod.kvDtype.rawValue,
                blockSize: nil,
                connector: catalog.connectorName(connector),
                tensorParallel: pod.tensorParallel
            )
        }
        let entry = catalog.connector(named: connector)
        switch catalog.compatibility(prefill: layout(sender), decode: layout(receiver)) {
        case .incompatible(let reason):
            Console.error("these pods cannot exchange KV: \(reason)")
            throw ExitCode(1)
        case .compatible(let repacks):
            return KVTransfer(
                from: sender.profile,
                to: receiver.profile,
                repacks: repacks,
                connector: entry,
                fixedCost: fixedMs.map { Seconds(milliseconds: $0) }
            )
        }
    }
}

/// `epp-pd predict transfer`
struct PredictTransfer: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "transfer",
        abstract: "What moving a prompt's KV from one pod to another adds after prefill.",
        discussion: """
            t0 + bytes ÷ min(bandwidths), plus repacking at unequal tensor parallelism; connectors that send layer by \
            layer hide part of it behind prefill.
            Example: epp-pd predict transfer --accelerator h100-sxm --model llama-3.1-70b --tp 4 --tokens 8192 \
            --connector mooncake
            """
    )

    @OptionGroup var pod: PodOptions
    @OptionGroup var pair: PairOptions
    @Option(help: "Tokens whose KV the decode pod lacks.")
    var tokens: Double
    @Option(help: "Prefill that a layer-wise transfer hides behind, in ms. Default: that of the same tokens.")
    var prefillMs: Double?

    private struct Report: Encodable {
        var exposed: Double
        var serial: Double
        var bytes: Double
        var fixed: Double
        var repack: Double
        var bandwidth: Double

        enum CodingKeys: String, CodingKey {
            case exposed = "predicted_ms"
            case serial = "serial_ms"
            case bytes
            case fixed = "fixed_ms"
            case repack = "repack_ms"
            case bandwidth = "bytes_per_second"
        }
    }

    func validate() throws {
        try checked(tokens, "tokens")
        if let prefillMs { try checked(prefillMs, "prefill-ms") }
    }

    func run() throws {
        let catalog = try pod.profiles.catalog()
        let (sender, receiver) = (pair.sender(of: pod, catalog), pair.receiver(of: pod, catalog))
        let transfer = try pair.transfer(from: sender, to: receiver, catalog)
        let prefill =
            prefillMs.map { Seconds(milliseconds: $0) }
            ?? sender.profile.prefill.duration(newTokens: Int(tokens), cachedTokens: 0)
        let bytes = tokens * max(sender.profile.kvBytesPerToken, receiver.profile.kvBytesPerToken)
        let report = Report(
            exposed: transfer.exposed(tokens: tokens, prefill: prefill).milliseconds,
            serial: transfer.serial(tokens: tokens).milliseconds,
            bytes: bytes,
            fixed: transfer.fixedCost.milliseconds,
            repack: tokens * transfer.repackPerToken * 1000,
            bandwidth: min(sender.profile.networkBytesPerSecond, receiver.profile.networkBytesPerSecond)
        )
        guard !pod.json else { return print(try JSONLine.encode(report)) }
        print(
            """
            KV of \(Numbers.fixed(tokens, 0)) tokens, \(Numbers.fixed(bytes / 1e6, 1)) MB, \
            \(sender.accelerator) ×\(sender.tensorParallel) to \(receiver.accelerator) ×\(receiver.tensorParallel)
              exposed after prefill  \(Numbers.milliseconds(report.exposed / 1000)) ms
              whole transfer         \(Numbers.milliseconds(report.serial / 1000)) ms
              of which fixed         \(Numbers.milliseconds(report.fixed / 1000)) ms
              of which repacking     \(Numbers.milliseconds(report.repack / 1000)) ms
              bandwidth              \(Numbers.fixed(report.bandwidth / 1e9, 1)) GB/s
            """
        )
    }
}

/// `epp-pd predict request`
struct PredictRequest: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "request",
        abstract: "Time and dollars of one request on a prefill and a decode pod.",
        discussion: """
            Example: epp-pd predict request --accelerator h100-sxm --tp 4 --to-accelerator h200-sxm --to-tp 2 --model \
            llama-3.1-70b --dtype fp8 --input-tokens 8000 --cached-tokens 2000 --output-tokens 300 --batch 24 --kv-tokens 150000
            """
    )

    @OptionGroup var pod: PodOptions
    @OptionGroup var pair: PairOptions
    @Option(help: "Tokens of the prompt.")
    var inputTokens: Int
    @Option(help: "Of these, cached at the prefill pod.")
    var cachedTokens = 0
    @Option(help: "Of these, cached at the decode pod.")
    var cachedAtDecode = 0
    @Option(help: "Tokens of the answer.")
    var outputTokens: Int
    @Option(help: "Sequences that the decode pod runs already.")
    var batch = 0.0
    @Option(help: "KV tokens that these hold.")
    var kvTokens = 0.0
    @Option(help: "Work ahead at the prefill pod, in ms.")
    var queueMs = 0.0
    @Flag(help: "One pod of both roles: no transfer.")
    var local = false

    private struct Report: Encodable {
        var ttft: Double
        var tpot: Double
        var total: Double
        var prefill: Double
        var transfer: Double
        var dollars: Double
        var marginal: Double
        var prefillSource: String
        var decodeSource: String
        var low: Double
        var high: Double

        enum CodingKeys: String, CodingKey {
            case ttft = "ttft_ms"
            case tpot = "tpot_ms"
            case total = "total_ms"
            case prefill = "prefill_ms"
            case transfer = "transfer_ms"
            case dollars = "usd"
            case marginal = "marginal_usd"
            case prefillSource = "prefill_source"
            case decodeSource = "decode_source"
            case low = "error_low_ms"
            case high = "error_high_ms"
        }
    }

    func validate() throws {
        let counts: [(String, Double)] = [
            ("input-tokens", Double(inputTokens)), ("cached-tokens", Double(cachedTokens)),
            ("cached-at-decode", Double(cachedAtDecode)), ("output-tokens", Double(outputTokens)), ("batch", batch),
            ("kv-tokens", kvTokens), ("queue-ms", queueMs),
        ]
        for (name, value) in counts { try checked(value, name) }
        guard cachedTokens <= inputTokens, cachedAtDecode <= inputTokens else {
            throw ValidationError("cached tokens must not exceed --input-tokens")
        }
    }

    func run() throws {
        let catalog = try pod.profiles.catalog()
        let p = pair.sender(of: pod, catalog)
        let d = local ? p : pair.receiver(of: pod, catalog)
        let prefill = p.profile.prefillEstimate(newTokens: inputTokens - cachedTokens, cachedTokens: cachedTokens)
        var exposed = Seconds.zero
        if !local {
            let transfer = try pair.transfer(from: p, to: d, catalog)
            exposed = transfer.exposed(tokens: Double(inputTokens - cachedAtDecode), prefill: prefill.mean)
        }
        let growing = Double(inputTokens) + Double(outputTokens) / 2
        let step = d.profile.decodeEstimate(batch: batch + 1, kvTokens: kvTokens + growing)
        let without = d.profile.decode.step(batch: batch, kvTokens: kvTokens)
        let fixed = p.profile.ttftOverhead + Seconds(milliseconds: queueMs) + exposed
        let ttft = fixed + prefill.mean + step.mean
        let decoding = step.mean * Double(max(outputTokens - 1, 0))
        let price = RequestPrice.busyShare(
            prefillPod: p.profile,
            prefill: prefill.mean,
            decodePod: d.profile,
            step: step.mean,
            batch: batch + 1,
            outputTokens: Double(outputTokens)
        )
        let marginal = RequestPrice.marginal(
            prefillPod: p.profile,
            prefill: prefill.mean,
            decodePod: d.profile,
            stepWith: step.mean,
            stepWithout: batch > 0 ? without : .zero,
            outputTokens: Double(outputTokens)
        )
        let decodes = Double(max(outputTokens, 1))
        let report = Report(
            ttft: ttft.milliseconds,
            tpot: step.mean.milliseconds,
            total: (ttft + decoding).milliseconds,
            prefill: prefill.mean.milliseconds,
            transfer: exposed.milliseconds,
            dollars: price.rawValue,
            marginal: marginal.rawValue,
            prefillSource: "\(prefill.source.rawValue) \(p.origin)",
            decodeSource: "\(step.source.rawValue) \(d.origin)",
            low: (fixed + prefill.low + step.low * decodes).milliseconds,
            high: (fixed + prefill.high + step.high * decodes).milliseconds
        )
        guard !pod.json else { return print(try JSONLine.encode(report)) }
        print(
            """
            \(inputTokens) tokens in (\(cachedTokens) cached), \(outputTokens) out; prefill on \(p.accelerator) \
            ×\(p.tensorParallel), decode on \(d.accelerator) ×\(d.tensorParallel)
              time to first token    \(Numbers.milliseconds(report.ttft / 1000)) ms \
            (prefill \(Numbers.milliseconds(report.prefill / 1000)), transfer \(Numbers.milliseconds(report.transfer / 1000)))
              time per output token  \(Numbers.milliseconds(report.tpot / 1000)) ms
              whole request          \(Numbers.milliseconds(report.total / 1000)) ms, 80 % band \
            \(Numbers.milliseconds(report.low / 1000)) to \(Numbers.milliseconds(report.high / 1000)) ms
              dollars per 1000       \(Numbers.dollarsPerThousand(report.dollars)) by busy share, \
            \(Numbers.dollarsPerThousand(report.marginal)) marginal
              prefill from           \(report.prefillSource)
              decode from            \(report.decodeSource)
            """
        )
    }
}
