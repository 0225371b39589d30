// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import CostModel

/// `epp-pd predict prefill`
struct PredictPrefill: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prefill",
        abstract: "How long one engine is busy with a prompt.",
        discussion: """
            c0 + c1lo·min(n, h) + c1hi·max(n − h, 0) + c2·(n·p + n²/2) + c3·(n + p)
            Example: epp-pd predict prefill --accelerator l40s --model llama-3.1-8b --dtype fp8 --new-tokens 4000 \
            --cached-tokens 1000
            """
    )

    @OptionGroup var pod: PodOptions
    @Option(help: "n: prompt tokens to compute.")
    var newTokens: Int
    @Option(help: "p: prompt tokens whose KV is cached.")
    var cachedTokens = 0

    func validate() throws {
        try checked(Double(newTokens), "new-tokens")
        try checked(Double(cachedTokens), "cached-tokens")
    }

    func run() throws {
        let resolution = pod.resolve(try pod.profiles.catalog())
        let estimate = resolution.profile.prefillEstimate(newTokens: newTokens, cachedTokens: cachedTokens)
        try PredictionReport(estimate, resolution).show(
            "prefill of \(newTokens) new and \(cachedTokens) cached tokens",
            json: pod.json
        )
    }
}

/// `epp-pd predict decode`
struct PredictDecode: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "decode",
        abstract: "How long one decode step of a batch takes.",
        discussion: """
            d0 + d1lo·min(B, h) + d1hi·max(B − h, 0) + d2·K
            With --draft-tokens, the time per output token of speculative decoding: the step verifies γ + 1 tokens of each \
            sequence and yields (1 − α^(γ+1)) ÷ (1 − α) of them.
            Example: epp-pd predict decode --accelerator h200-sxm --model llama-3.1-70b --tp 2 --dtype fp8 --batch 32 \
            --kv-tokens 200000 --draft-tokens 3 --acceptance 0.7 --draft-ms 1.5
            """
    )

    @OptionGroup var pod: PodOptions
    @Option(help: "B: sequences in the batch.")
    var batch: Double
    @Option(help: "K: KV tokens that they hold together.")
    var kvTokens: Double
    @Option(help: "γ: tokens that a draft proposes per step; 0 = no speculation.")
    var draftTokens = 0
    @Option(help: "α: the chance that a drafted token is accepted.")
    var acceptance = 0.7
    @Option(help: "What making the draft takes, in ms.")
    var draftMs = 0.0

    func validate() throws {
        guard (0...64).contains(draftTokens) else { throw ValidationError("--draft-tokens must be from 0 to 64") }
        guard (0...1).contains(acceptance) else { throw ValidationError("--acceptance must be from 0 to 1") }
        try checked(draftMs, "draft-ms")
        try checked(batch, "batch")
        try checked(kvTokens, "kv-tokens")
    }

    func run() throws {
        let resolution = pod.resolve(try pod.profiles.catalog())
        var estimate = resolution.profile.decodeEstimate(batch: batch, kvTokens: kvTokens)
        let load = "\(Numbers.fixed(batch, 0)) sequences with \(Numbers.fixed(kvTokens, 0)) KV tokens"
        guard draftTokens > 0 else {
            return try PredictionReport(estimate, resolution).show("decode step of \(load)", json: pod.json)
        }
        let speculation = SpeculativeDecoding(
            acceptance: acceptance,
            draftTokens: draftTokens,
            draftTime: Seconds(milliseconds: draftMs)
        )
        estimate.mean = speculation.tpot(profile: resolution.profile, batch: batch, kvTokens: kvTokens)
        let what = "time per output token of \(load), \(draftTokens) drafted"
        try PredictionReport(estimate, resolution).show(what, json: pod.json)
    }
}

/// `epp-pd predict step`
struct PredictStep: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "step",
        abstract: "How long one engine step takes that mixes a prefill chunk with decodes.",
        discussion: """
            c0 + c1lo·min(N, h) + c1hi·max(N − h, 0) + c2·A + d1·B + d2·(K + n + p), N = n + B, A = n·p + n²/2
            Example: epp-pd predict step --accelerator h100-sxm --model qwen3-32b --tp 2 --new-tokens 2048 --batch 24 \
            --kv-tokens 60000
            """
    )

    @OptionGroup var pod: PodOptions
    @Option(help: "n: prefill tokens of the step.")
    var newTokens = 0.0
    @Option(help: "p: context before them.")
    var cachedTokens = 0.0
    @Option(help: "B: decoding sequences.")
    var batch = 0.0
    @Option(help: "K: KV tokens that they hold together.")
    var kvTokens = 0.0

    func validate() throws {
        try checked(newTokens, "new-tokens")
        try checked(cachedTokens, "cached-tokens")
        try checked(batch, "batch")
        try checked(kvTokens, "kv-tokens")
    }

    func run() throws {
        let resolution = pod.resolve(try pod.profiles.catalog())
        let estimate = resolution.profile.stepEstimate(
            newTokens: newTokens,
            cachedTokens: cachedTokens,
            batch: batch,
            kvTokens: kvTokens
        )
        let what = "step of \(Numbers.fixed(newTokens, 0)) prefill tokens and \(Numbers.fixed(batch, 0)) sequences"
        try PredictionReport(estimate, resolution).show(what, json: pod.json)
    }
}
