// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Testing

@Suite struct NamesTests {
    let catalog = SmallCatalog.catalog

    @Test(arguments: [
        "h100-sxm", "H100_SXM", "NVIDIA-H100-80GB-HBM3", "nvidia-h100-80gb", "H100", "nvidia h100", "p5.48xlarge",
    ])
    func acceleratorsOfManyNames(name: String) {
        #expect(catalog.acceleratorName(name) == "h100-sxm")
    }

    @Test func aSliceIsNoWholeAccelerator() {
        #expect(catalog.accelerator(named: "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb") == nil)
        #expect(catalog.acceleratorName("Cerebras_CS3") == "cerebras-cs3")
    }

    @Test(arguments: [
        "meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b", "Meta-Llama-3.1-70B-Instruct-FP8",
        "/models/Llama-2-70b-hf",
        "neuralmagic/Llama-3.1-70B-Instruct-quantized.w4a16",
    ])
    func modelsByShape(name: String) {
        #expect(catalog.modelName(name) == "llama-3.1-70b")
    }

    @Test func identityKeepsModelsOfOneShapeApart() {
        #expect(catalog.modelIdentity("meta-llama/Llama-3.3-70B-Instruct-FP8") == "llama-3.3-70b-instruct")
        #expect(catalog.modelIdentity("Llama-3.3-70B-Instruct") == "llama-3.3-70b-instruct")
        #expect(catalog.modelIdentity("Llama-3.3-70B-FP8-Instruct") == "llama-3.3-70b-instruct")
        #expect(catalog.modelIdentity("fp8-lab") == "fp8-lab")
        #expect(catalog.modelIdentity("Llama-2-70b") != catalog.modelIdentity("Llama-3.1-70b"))
    }

    @Test(arguments: [
        ("bf16", "llama-3.1-70b", WeightDtype.bfloat16), ("fp8", "llama-3.1-70b", .fp8),
        ("", "llama-3.1-70b", .bfloat16),
        ("", "Llama-3.1-70B-FP8", .fp8), ("", "acme/Llama-3.1-70B-FP8-Instruct", .fp8),
        ("BF16", "Llama-3.1-70B-FP8", .bfloat16), ("FP8", "llama-3.1-70b", .fp8), ("", "Llama-3.1-70B-AWQ", .int4),
        ("bfloat16", "gpt-oss-120b", .fp4),
        ("mxfp4", "gpt-oss-120b", .fp4), ("", "openai/gpt-oss-120b", .fp4), ("nvfp4", "llama-3.1-70b", .fp4),
        ("", "deepseek-ai/DeepSeek-R1", .fp8), ("nonsense", "llama-3.1-70b", .bfloat16),
    ])
    func dtypes(stated: String, model: String, expected: WeightDtype) {
        #expect(catalog.weightDtype(stated, model: model) == expected)
    }

    @Test func autoIsBfloat16WhateverTheWeights() {
        #expect(KVDtype(named: "auto") == .bfloat16)
        #expect(KVDtype(named: "fp8_e4m3") == .fp8)
        #expect(KVDtype(named: "int3") == nil)
    }

    @Test(
        arguments: [
            ("foo-13b-chat", 13e9, nil), ("bar-0.6B", 0.6e9, nil), ("x/qwen9-30b-a3b", 30e9, 3e9),
        ] as [(String, Double, Double?)]
    )
    func parametersThatANameStates(name: String, total: Double, active: Double?) throws {
        let stated = try #require(ModelName(name).statedParameters)
        #expect(stated.total == total)
        #expect(stated.active == active)
    }

    @Test(arguments: ["nothing", "b", "-b", "1e400b", "nanb", "infb", "99999999b", ""])
    func namesThatStateNone(name: String) {
        #expect(ModelName(name).statedParameters == nil)
    }
}
