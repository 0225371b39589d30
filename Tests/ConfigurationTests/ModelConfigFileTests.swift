// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Testing

@Suite struct ModelConfigFileTests {
    private func read(_ text: String) throws -> ModelFacts {
        try ModelConfigFile.read(text: text, file: "config.json", name: "acme/Model-X")
    }

    private func near(_ value: Double, _ billions: Double) -> Bool { abs(value / (billions * 1e9) - 1) < 0.015 }

    @Test func aDenseModel() throws {
        // Llama-3.1-70B.
        let facts = try read(
            """
            {"architectures": ["LlamaForCausalLM"], "hidden_size": 8192, "intermediate_size": 28672, "vocab_size": 128256,
             "num_attention_heads": 64, "num_hidden_layers": 80, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
             "tie_word_embeddings": false, "torch_dtype": "bfloat16", "rope_scaling": {"factor": 8.0}}
            """
        )
        #expect(facts.name == "model-x")
        #expect(near(facts.parameters, 70.55) && facts.activeParameters == facts.parameters)
        #expect(facts.kvBytesPerToken(dtype: .bfloat16) == 327_680)
        #expect(facts.nativeDtype == .bfloat16 && !facts.isMixtureOfExperts)
    }

    @Test func aMixtureOfExperts() throws {
        // Qwen3-235B-A22B.
        let facts = try read(
            """
            {"hidden_size": 4096, "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_experts": 128,
             "num_experts_per_tok": 8, "num_attention_heads": 64, "num_hidden_layers": 94, "num_key_value_heads": 4,
             "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": false,
             "quantization_config": {"quant_method": "fp8", "fmt": "e4m3"}}
            """
        )
        #expect(near(facts.parameters, 235.1) && near(facts.activeParameters, 22.2))
        #expect(facts.experts == 128 && facts.expertsPerToken == 8 && facts.nativeDtype == .fp8)
    }

    @Test func latentAttentionAndSharedExperts() throws {
        // DeepSeek-V3.
        let facts = try read(
            """
            {"hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256,
             "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "num_attention_heads": 128,
             "num_hidden_layers": 61, "num_key_value_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
             "qk_nope_head_dim": 128, "v_head_dim": 128, "q_lora_rank": 1536, "vocab_size": 129280,
             "quantization_config": {"quant_method": "fp8"}}
            """
        )
        #expect(facts.headDimension == 128)
        #expect(near(facts.parameters, 671) && abs(facts.activeParameters / 37e9 - 1) < 0.03)
        #expect(facts.kvBytesPerToken(dtype: .bfloat16) == 70_272)
    }

    @Test func windowsAndInnerConfigurations() throws {
        // gpt-oss-120b: every second layer slides.
        let types = (0..<36).map { $0 % 2 == 0 ? "\"sliding_attention\"" : "\"full_attention\"" }.joined(separator: ",")
        let facts = try read(
            """
            {"text_config": {"hidden_size": 2880, "intermediate_size": 2880, "num_local_experts": 128,
             "experts_per_token": 4, "num_experts_per_tok": 4, "num_attention_heads": 64, "num_hidden_layers": 36,
             "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088, "sliding_window": 128,
             "layer_types": [\(types)]}, "quantization_config": {"quant_method": "mxfp4"}}
            """
        )
        #expect(near(facts.parameters, 116.8))
        #expect(facts.windowedLayers == 18 && facts.window == 128 && facts.nativeDtype == .fp4)
        #expect(facts.kvBytesPerToken(dtype: .bfloat16) == 36_864)
    }

    static let dense = """
        "num_hidden_layers": 36, "hidden_size": 4096, "num_attention_heads": 32, "vocab_size": 151936
        """

    @Test(arguments: [
        (
            "{\"quant_method\": \"compressed-tensors\", \"config_groups\": {\"group_0\": {\"weights\": "
                + "{\"num_bits\": 4, \"type\": \"int\"}, \"input_activations\": null}}}", WeightDtype.int4
        ),
        (
            "{\"quant_method\": \"compressed-tensors\", \"config_groups\": {\"group_0\": {\"weights\": "
                + "{\"num_bits\": 4, \"type\": \"float\"}}}}", .fp4
        ),
        (
            "{\"quant_method\": \"compressed-tensors\", \"config_groups\": {\"group_0\": {\"weights\": "
                + "{\"num_bits\": 8, \"type\": \"float\"}}}}", .fp8
        ),
        ("{\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true, \"load_in_8bit\": false}", .int4),
        ("{\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": false, \"load_in_8bit\": true}", .fp8),
        ("{\"quant_method\": \"modelopt\", \"quant_algo\": \"NVFP4\"}", .fp4),
        ("{\"quant_method\": \"modelopt\", \"quant_algo\": \"FP8\"}", .fp8),
        ("{\"quant_method\": \"modelopt\", \"quant_algo\": \"W4A16_AWQ\"}", .int4),
        ("{\"quant_method\": \"gptq\", \"bits\": 4}", .int4), ("{\"quant_method\": \"gptq\", \"bits\": 8}", .fp8),
        ("{\"quant_method\": \"awq\", \"bits\": 4}", .int4), ("{\"quant_method\": \"mxfp4\"}", .fp4),
        ("{\"quant_method\": \"fbgemm_fp8\"}", .fp8),
    ])
    func quantizations(stated: String, expected: WeightDtype) throws {
        let facts = try read("{\(Self.dense), \"quantization_config\": \(stated)}")
        #expect(facts.nativeDtype == expected && facts.isVerified)
    }

    @Test func aQuantizationThatNobodyKnowsIsSaidToBeAssumed() throws {
        let facts = try read("{\(Self.dense), \"quantization_config\": {\"quant_method\": \"novel\"}}")
        #expect(!facts.isVerified && facts.source.hasSuffix("assumed: dtype"))
        let line = "models:\n" + ProfileText.model(facts)
        #expect(try ProfileLoader.read(text: line, file: "x.yaml").models.first?.isVerified == false)
    }

    /// Gemma-3-4B states neither heads nor vocabulary, Gemma-3-27B no vocabulary.
    @Test func whatAFamilyLeavesOutIsAssumed() throws {
        let small = try read(
            """
            {"model_type": "gemma3", "text_config": {"hidden_size": 2560, "intermediate_size": 10240,
             "model_type": "gemma3_text", "num_hidden_layers": 34, "sliding_window": 1024}}
            """
        )
        #expect(abs(small.parameters / 3.88e9 - 1) < 0.02)
        #expect(small.headDimension == 256 && small.kvHeads == 4 && small.attentionHeads == 8)
        #expect(small.windowedLayers == 29 && small.window == 1024)
        #expect(!small.isVerified && small.source.contains("vocab_size") && small.source.contains("head_dim"))
        let large = try read(
            """
            {"model_type": "gemma3", "text_config": {"head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504,
             "model_type": "gemma3_text", "num_attention_heads": 32, "num_hidden_layers": 62,
             "num_key_value_heads": 16, "sliding_window": 1024}}
            """
        )
        #expect(near(large.parameters, 27.0) && large.windowedLayers == 52)
    }

    @Test(arguments: [("Scout", 1, 16, 107.8, 17.2), ("Maverick", 2, 128, 400.7, 17.2)])
    func llama4(name: String, step: Int, experts: Int, total: Double, active: Double) throws {
        let facts = try read(
            """
            {"model_type": "llama4", "text_config": {"model_type": "llama4_text", "head_dim": 128, "hidden_size": 5120,
             "interleave_moe_layer_step": \(step), "intermediate_size": 8192, "intermediate_size_mlp": 16384,
             "num_attention_heads": 40, "num_experts_per_tok": 1, "num_hidden_layers": 48, "num_key_value_heads": 8,
             "num_local_experts": \(experts), "vocab_size": 202048, "attention_chunk_size": 8192,
             "tie_word_embeddings": false}}
            """
        )
        #expect(near(facts.parameters, total) && near(facts.activeParameters, active), "\(name)")
        #expect(facts.windowedLayers == 36 && facts.window == 8192 && facts.isVerified)
    }

    /// Qwen3-Next-80B-A3B: every fourth layer has ordinary attention, the others a state of fixed size.
    @Test func linearAttention() throws {
        let facts = try read(
            """
            {"model_type": "qwen3_next", "decoder_sparse_step": 1, "full_attention_interval": 4, "head_dim": 256,
             "hidden_size": 2048, "intermediate_size": 5120, "linear_key_head_dim": 128, "linear_num_key_heads": 16,
             "linear_num_value_heads": 32, "linear_value_head_dim": 128, "moe_intermediate_size": 512,
             "num_attention_heads": 16, "num_experts": 512, "num_experts_per_tok": 10, "num_hidden_layers": 48,
             "num_key_value_heads": 2, "shared_expert_intermediate_size": 512, "vocab_size": 151936,
             "tie_word_embeddings": false, "mlp_only_layers": []}
            """
        )
        #expect(near(facts.parameters, 79.7) && abs(facts.activeParameters / 3.9e9 - 1) < 0.03)
        #expect(facts.kvBytesPerToken(dtype: .bfloat16) == 12 * 2 * 2 * 256 * 2)
        #expect(facts.windowedLayers == 36 && facts.window == 512)
    }

    /// Falcon-7B: a flag says one KV head where a number says 71.
    @Test func oneKVHeadByAFlag() throws {
        let facts = try read(
            """
            {"model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71, "num_hidden_layers": 32,
             "multi_query": true, "new_decoder_architecture": false, "num_kv_heads": 71, "vocab_size": 65024}
            """
        )
        #expect(facts.kvHeads == 1 && facts.headDimension == 64 && near(facts.parameters, 6.92))
        let newer = try read(
            """
            {"model_type": "falcon", "hidden_size": 8192, "num_attention_heads": 128, "num_hidden_layers": 60,
             "multi_query": true, "new_decoder_architecture": true, "num_kv_heads": 8, "vocab_size": 65024}
            """
        )
        #expect(newer.kvHeads == 8 && near(newer.parameters, 41.3))
    }

    @Test(arguments: [
        "{}", "[]", "3", "{\"num_hidden_layers\": 3}",
        "{\"num_hidden_layers\": 1e9, \"hidden_size\": 8, \"num_attention_heads\": 0, \"vocab_size\": -4}",
        "{\"num_hidden_layers\": \"many\", \"hidden_size\": 4096, \"num_attention_heads\": 32, \"vocab_size\": 9}",
    ])
    func whatIsNoModelIsRefused(text: String) {
        #expect(throws: ConfigurationErrors.self) { try read(text) }
    }

    @Test func whatIsWrittenCanBeRead() throws {
        var facts = try read(
            """
            {"num_hidden_layers": 36, "hidden_size": 4096, "num_attention_heads": 32, "vocab_size": 151936,
             "num_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 14336}
            """
        )
        facts.windowedLayers = 3
        facts.window = 512
        let text = "models:\n" + ProfileText.model(facts, aliases: ["odd \"name\"", "x*"])
        let read = try #require(try ProfileLoader.read(text: text, file: "x.yaml").models.first)
        #expect(read.layers == 36 && read.experts == 8 && read.window == 512 && read.aliases == ["odd \"name\"", "x*"])
        #expect(abs(read.parameters / facts.parameters - 1) < 1e-5)
    }

    @Test func aFitSurvivesWritingAndReading() throws {
        let fit = FittedConfiguration(
            accelerator: "l40s",
            model: "x-1b",
            tensorParallel: 2,
            dtype: .fp8,
            engine: "vllm",
            prefill: PrefillCoefficients(
                knee: 96,
                base: 0.0123456,
                perTokenBelowKnee: 0,
                perTokenAboveKnee: 4.5e-5,
                perPair: 2.5e-9,
                perContextToken: 1.25e-10
            ),
            decode: DecodeCoefficients(
                knee: 64,
                base: 0.01,
                perSequenceBelowKnee: 1e-5,
                perSequenceAboveKnee: 2e-5,
                perKVToken: 2e-7
            ),
            mixed: StepCoefficients(
                knee: 96,
                base: 0.01,
                perTokenBelowKnee: 1e-6,
                perTokenAboveKnee: 4.5e-5,
                perPair: 2.5e-9,
                perSequence: 0,
                perKVToken: 2e-7
            ),
            prefillError: 0.031,
            decodeError: 0.0001,
            mixedError: 0.031,
            provenance: "a test: \"quoted\"",
            isEndToEnd: true,
            ttftOverhead: Seconds(milliseconds: 12.5)
        )
        let read = try #require(try ProfileLoader.read(text: ProfileText.file(fit), file: "x.yaml").fits.first)
        #expect(read.isEndToEnd && read.ttftOverhead == fit.ttftOverhead && read.provenance == fit.provenance)
        func near(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 1e-5 * max(abs(a), abs(b)) }
        #expect(
            near(read.prefill.base, fit.prefill.base) && near(read.prefill.perContextToken, fit.prefill.perContextToken)
        )
        #expect(near(read.decode.perKVToken, fit.decode.perKVToken) && near(read.mixed.perPair, fit.mixed.perPair))
        #expect(near(read.decodeError, fit.decodeError))
    }
}
