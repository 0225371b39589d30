// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// A catalogue of a few entries, with round figures, for tests of rules rather than of numbers.
enum SmallCatalog {
    static let h100 = Accelerator(
        name: "h100-sxm",
        aliases: ["H100", "H100-80GB-HBM3", "h100-80gb", "p5.*"],
        memoryBytes: 80e9,
        memoryBandwidth: 3.35e12,
        bfloat16Flops: 989e12,
        fp8Flops: 1979e12,
        networkBandwidth: 50e9,
        pricePerHour: 3.99
    )
    static let a100 = Accelerator(
        name: "a100-sxm",
        aliases: ["A100-SXM4-80GB"],
        memoryBytes: 80e9,
        memoryBandwidth: 2.04e12,
        bfloat16Flops: 312e12,
        networkBandwidth: 25e9,
        pricePerHour: 2.79
    )
    static let b300 = Accelerator(
        name: "b300-sxm",
        memoryBytes: 270e9,
        memoryBandwidth: 8e12,
        bfloat16Flops: 2250e12,
        fp8Flops: 4500e12,
        pricePerHour: 7.89,
        isVerified: false
    )

    static let llama70 = ModelFacts(
        name: "llama-3.1-70b",
        aliases: ["llama-2-70b*", "llama-3.3-70b*", "llama-3.1-70b*"],
        parameters: 70.6e9,
        layers: 80,
        hiddenSize: 8192,
        attentionHeads: 64,
        kvHeads: 8,
        headDimension: 128
    )
    static let qwen32 = ModelFacts(
        name: "qwen3-32b",
        parameters: 32.8e9,
        layers: 64,
        hiddenSize: 5120,
        attentionHeads: 64,
        kvHeads: 8,
        headDimension: 128
    )
    static let gptOSS = ModelFacts(
        name: "gpt-oss-120b",
        parameters: 116.8e9,
        activeParameters: 5.1e9,
        layers: 36,
        hiddenSize: 2880,
        attentionHeads: 64,
        kvHeads: 8,
        headDimension: 64,
        experts: 128,
        expertsPerToken: 4,
        windowedLayers: 18,
        window: 128,
        nativeDtype: .fp4,
        isNativeOnly: true
    )
    static let deepSeek = ModelFacts(
        name: "deepseek-v3",
        aliases: ["deepseek-r1"],
        parameters: 671e9,
        activeParameters: 37e9,
        layers: 61,
        hiddenSize: 7168,
        attentionHeads: 128,
        kvHeads: 128,
        headDimension: 128,
        experts: 256,
        expertsPerToken: 8,
        latentDimension: 576,
        nativeDtype: .fp8
    )

    static func fit(
        _ accelerator: String,
        _ model: String,
        tp: Int,
        _ dtype: WeightDtype,
        base: Double
    ) -> FittedConfiguration {
        FittedConfiguration(
            accelerator: accelerator,
            model: model,
            tensorParallel: tp,
            dtype: dtype,
            engine: "vllm",
            prefill: PrefillCoefficients(
                knee: 96,
                base: base,
                perTokenBelowKnee: 40e-6,
                perTokenAboveKnee: 50e-6,
                perPair: 1e-9,
                perContextToken: 1e-9
            ),
            decode: DecodeCoefficients(
                knee: 128,
                base: base,
                perSequenceBelowKnee: 40e-6,
                perSequenceAboveKnee: 50e-6,
                perKVToken: 28e-9
            ),
            mixed: StepCoefficients(
                knee: 96,
                base: base,
                perTokenBelowKnee: 40e-6,
                perTokenAboveKnee: 50e-6,
                perPair: 1e-9,
                perSequence: 5e-6,
                perKVToken: 28e-9
            ),
            prefillError: 0.03,
            decodeError: 0.03,
            mixedError: 0.04
        )
    }

    static let document = ProfileDocument(
        accelerators: [h100, a100, b300],
        models: [llama70, qwen32, gptOSS, deepSeek],
        connectors: [
            Connector(
                name: "nixl",
                aliases: ["NixlConnector"],
                fixedCost: Seconds(milliseconds: 10),
                efficiency: 0.7,
                isLayerwise: false,
                allowsUnequalTensorParallel: true
            ),
            Connector(
                name: "rigid",
                fixedCost: Seconds(milliseconds: 1),
                efficiency: 0.7,
                isLayerwise: true,
                allowsUnequalTensorParallel: false
            ),
        ],
        corrections: [
            ServingCorrection(
                accelerator: "h100-sxm",
                engine: "vllm",
                decodeScale: 1.1,
                ttftOverhead: Seconds(milliseconds: 9)
            )
        ],
        fits: [
            fit("h100-sxm", "llama-3.1-70b", tp: 4, .fp8, base: 0.011),
            fit("h100-sxm", "llama-3.1-70b", tp: 8, .fp8, base: 0.007),
            fit("h100-sxm", "llama-3.1-70b", tp: 4, .bfloat16, base: 0.0156),
            fit("h100-sxm", "gpt-oss-120b", tp: 1, .bfloat16, base: 0.004),
        ]
    )

    static let catalog = ProfileCatalog(documents: [document])
}
