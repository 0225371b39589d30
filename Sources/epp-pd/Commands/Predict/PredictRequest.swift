// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import CostModel

/// `epp-pd predict request`
struct PredictRequest: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "request",
        abstract: "Time and dollars of one request on a prefill and a decode pod.",
        discussion: """
            Queue, prefill, transfer, overhead, waiting for KV room, and the first step make the time to first token; the \
            expected recomputation after a preemption comes on top of the whole.
            Example: epp-pd predict request --accelerator h100-sxm --tp 4 --to-accelerator h200-sxm --to-tp 2 --model \
            llama-3.1-70b --dtype fp8 --input-tokens 8000 --cached-tokens 2000 --output-tokens 300 --batch 24 \
            --kv-tokens 150000 --waiting 3 --waiting-tokens 9000
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
    @Option(help: "Mean tokens of their answers. Default: as of this one.")
    var meanOutput: Double?
    @Option(help: "Standard deviation of answers' tokens. Default: half of the mean.")
    var outputDeviation: Double?
    @Option(help: "Work ahead at the prefill pod, in ms.")
    var queueMs = 0.0
    @Option(help: "Requests that wait at the prefill pod.")
    var waiting = 0
    @Option(help: "Prompt tokens of these.")
    var waitingTokens = 0.0
    @Option(help: "Requests per second that other pickers send to the prefill pod.")
    var unseenRate = 0.0
    @Flag(help: "One pod of both roles: no transfer.")
    var local = false

    func validate() throws {
        let counts: [(String, Double)] = [
            ("input-tokens", Double(inputTokens)), ("cached-tokens", Double(cachedTokens)),
            ("cached-at-decode", Double(cachedAtDecode)), ("output-tokens", Double(outputTokens)), ("batch", batch),
            ("kv-tokens", kvTokens), ("queue-ms", queueMs), ("mean-output", meanOutput ?? 0),
            ("output-deviation", outputDeviation ?? 0), ("waiting", Double(waiting)),
            ("waiting-tokens", waitingTokens), ("unseen-rate", unseenRate),
        ]
        for (name, value) in counts { try checked(value, name) }
        guard cachedTokens <= inputTokens, cachedAtDecode <= inputTokens else {
            throw ValidationError("cached tokens must not exceed --input-tokens")
        }
    }

    func run() throws {
        let catalog = try pod.profiles.catalog()
        var pods = pair.resolve(pod, catalog)
        if local { pods.receiver = pods.sender }
        let mean = meanOutput ?? Double(outputTokens)
        let estimate = RequestEstimate(
            on: pods,
            transfer: local ? nil : try pods.transfer(catalog),
            input: inputTokens,
            cached: cachedTokens,
            cachedAtDecode: cachedAtDecode,
            output: outputTokens,
            RequestEstimate.Load(
                batch: batch,
                kvTokens: kvTokens,
                meanOutput: mean,
                outputDeviation: outputDeviation ?? mean / 2,
                queued: Seconds(milliseconds: queueMs),
                waiting: waiting,
                waitingTokens: waitingTokens,
                unseenRate: unseenRate
            )
        )
        let report = RequestReport(estimate, pods)
        guard !pod.json else { return print(try JSONLine.encode(report)) }
        show(report, pods)
    }

    private func show(_ report: RequestReport, _ pods: PodPair) {
        func ms(_ value: Double) -> String { Numbers.milliseconds(value / 1000) }
        func band(_ low: Double, _ high: Double) -> String { "80 % band \(ms(low)) to \(ms(high)) ms" }
        let (p, d) = (pods.sender, pods.receiver)
        print(
            """
            \(inputTokens) tokens in (\(cachedTokens) cached), \(outputTokens) out; prefill on \(p.accelerator) \
            ×\(p.tensorParallel), decode on \(d.accelerator) ×\(d.tensorParallel)
              time to first token    \(ms(report.ttft_ms)) ms, \(band(report.ttft_error_low_ms, report.ttft_error_high_ms))
                                     (queue \(ms(report.queue_ms)), prefill \(ms(report.prefill_ms)), \
            transfer \(ms(report.transfer_ms)), KV room \(ms(report.admission_ms)))
              time per output token  \(ms(report.tpot_ms)) ms, \(band(report.tpot_error_low_ms, report.tpot_error_high_ms))
              whole request          \(ms(report.total_ms)) ms, \(band(report.error_low_ms, report.error_high_ms))
              chance of preemption   \(Numbers.fixed(report.overflow_probability * 100, 1)) %, \
            \(ms(report.recompute_ms)) ms to be expected
              dollars per 1000       \(Numbers.dollarsPerThousand(report.usd)) by busy share \
            (\(Numbers.dollarsPerThousand(report.usd_error_low)) to \(Numbers.dollarsPerThousand(report.usd_error_high))), \
            \(Numbers.dollarsPerThousand(report.marginal_usd)) marginal
              prefill from           \(report.prefill_source)
              decode from            \(report.decode_source)
            """
        )
    }
}

/// What `predict request` prints.
struct RequestReport: Encodable {
    var ttft_ms: Double
    var ttft_error_low_ms: Double
    var ttft_error_high_ms: Double
    var tpot_ms: Double
    var tpot_error_low_ms: Double
    var tpot_error_high_ms: Double
    var total_ms: Double
    var error_low_ms: Double
    var error_high_ms: Double
    var queue_ms: Double
    var prefill_ms: Double
    var transfer_ms: Double
    var admission_ms: Double
    var overflow_probability: Double
    var recompute_ms: Double
    var usd: Double
    var usd_error_low: Double
    var usd_error_high: Double
    var marginal_usd: Double
    var marginal_usd_error_low: Double
    var marginal_usd_error_high: Double
    var prefill_source: String
    var decode_source: String

    init(_ estimate: RequestEstimate, _ pods: PodPair) {
        ttft_ms = estimate.ttft.milliseconds
        ttft_error_low_ms = estimate.ttftLow.milliseconds
        ttft_error_high_ms = estimate.ttftHigh.milliseconds
        tpot_ms = estimate.step.mean.milliseconds
        tpot_error_low_ms = estimate.step.low.milliseconds
        tpot_error_high_ms = estimate.step.high.milliseconds
        total_ms = estimate.total.milliseconds
        error_low_ms = estimate.totalLow.milliseconds
        error_high_ms = estimate.totalHigh.milliseconds
        queue_ms = estimate.queue.milliseconds
        prefill_ms = estimate.prefill.mean.milliseconds
        transfer_ms = estimate.transfer.mean.milliseconds
        admission_ms = estimate.admission.milliseconds
        overflow_probability = estimate.overflowProbability
        recompute_ms = estimate.recompute.milliseconds
        usd = estimate.dollars.mean.rawValue
        usd_error_low = estimate.dollars.low.rawValue
        usd_error_high = estimate.dollars.high.rawValue
        marginal_usd = estimate.marginal.mean.rawValue
        marginal_usd_error_low = estimate.marginal.low.rawValue
        marginal_usd_error_high = estimate.marginal.high.rawValue
        prefill_source = "\(estimate.prefill.source.rawValue) \(pods.sender.origin)"
        decode_source = "\(estimate.step.source.rawValue) \(pods.receiver.origin)"
    }
}
