// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import CostModel

/// `epp-pd predict transfer`
struct PredictTransfer: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "transfer",
        abstract: "What moving a prompt's KV from one pod to another adds after prefill.",
        discussion: """
            t0 + bytes ÷ min(bandwidths), plus repacking at unequal tensor parallelism; connectors that send layer by \
            layer hide part of it behind prefill. Pods that cannot exchange KV (another model, KV dtype, block size or \
            connector) are refused with the reason, exit code 1.
            Example: epp-pd predict transfer --accelerator h100-sxm --model llama-3.1-70b --tp 4 --tokens 8192 \
            --connector mooncake
            Example: epp-pd predict transfer --accelerator h100-sxm --model llama-3.1-70b --tp 4 --tokens 8192 \
            --kv-dtype fp8 --to-kv-dtype bfloat16
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
        var low: Double
        var high: Double
        var source: String
        var origin: String
        var serial: Double
        var bytes: Double
        var fixed: Double
        var repack: Double
        var bandwidth: Double

        enum CodingKeys: String, CodingKey {
            case exposed = "predicted_ms"
            case low = "error_low_ms"
            case high = "error_high_ms"
            case source, origin
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
        let pods = pair.resolve(pod, catalog)
        let transfer = try pods.transfer(catalog)
        let (sender, receiver) = (pods.sender, pods.receiver)
        let stated = prefillMs.map { ms in
            PhaseEstimate(mean: Seconds(milliseconds: ms), error: 0, source: sender.profile.source)
        }
        let prefill = stated ?? sender.profile.prefillEstimate(newTokens: Int(tokens: tokens), cachedTokens: 0)
        let estimate = transfer.estimate(tokens: tokens, prefill: prefill, error: pods.transferError)
        let bytes = transfer.moved(tokens) * max(sender.profile.kvBytesPerToken, receiver.profile.kvBytesPerToken)
        let report = Report(
            exposed: estimate.mean.milliseconds,
            low: estimate.low.milliseconds,
            high: estimate.high.milliseconds,
            source: "connector \(pods.connector.name)",
            origin: pods.origin,
            serial: transfer.serial(tokens: tokens).milliseconds,
            bytes: bytes,
            fixed: transfer.fixedCost.milliseconds,
            repack: transfer.moved(tokens) * transfer.repackPerToken * 1000,
            bandwidth: min(sender.profile.networkBytesPerSecond, receiver.profile.networkBytesPerSecond)
        )
        guard !pod.json else { return print(try JSONLine.encode(report)) }
        func ms(_ value: Double) -> String { Numbers.milliseconds(value / 1000) }
        print(
            """
            KV of \(Numbers.fixed(tokens, 0)) tokens, \(Numbers.fixed(bytes / 1e6, 1)) MB, \
            \(sender.accelerator) ×\(sender.tensorParallel) to \(receiver.accelerator) ×\(receiver.tensorParallel)
              exposed after prefill  \(ms(report.exposed)) ms, 80 % band \(ms(report.low)) to \(ms(report.high)) ms
              whole transfer         \(ms(report.serial)) ms
              of which fixed         \(ms(report.fixed)) ms
              of which repacking     \(ms(report.repack)) ms
              bandwidth              \(Numbers.fixed(report.bandwidth / 1e9, 1)) GB/s
              source                 \(report.source): \(report.origin)
            """
        )
    }
}
