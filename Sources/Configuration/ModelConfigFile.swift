// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Reads a model's shape from the `config.json` that its publisher ships (Hugging Face).
package enum ModelConfigFile {
    /// The shape; `name` becomes the canonical name of the model.
    package static func read(path: String, name: String) throws(ConfigurationErrors) -> ModelFacts {
        try Document.read(path: path) { facts($0, name: name) }
    }

    package static func read(text: String, file: String, name: String) throws(ConfigurationErrors) -> ModelFacts {
        try Document.read(text: text, file: file) { facts($0, name: name) }
    }

    private struct Fields {
        var place: DocumentValue
        var values: [String: DocumentValue]

        init(_ value: DocumentValue) {
            place = value
            values = Dictionary(
                value.entries().filter { !$0.value.isNull }.map { ($0.key, $0.value) },
                uniquingKeysWith: { first, _ in first }
            )
        }

        func integer(_ keys: String..., in range: ClosedRange<Int>) -> Int? {
            for key in keys { if let value = values[key] { return value.integer(in: range) } }
            return nil
        }

        func required(_ keys: String..., in range: ClosedRange<Int>) -> Int? {
            for key in keys { if let value = values[key] { return value.integer(in: range) } }
            place.reject("\(keys[0]) is required")
            return nil
        }
    }

    private static let sizes = 1...1_000_000
    private static let counts = 0...1_000_000

    private static func facts(_ root: DocumentValue, name: String) -> ModelFacts? {
        var fields = Fields(root)
        // Models that also see or hear keep the language model's shape apart.
        for key in ["text_config", "llm_config", "language_config"] {
            if let inner = fields.values[key], inner.isObject {
                let outer = fields
                fields = Fields(inner)
                for (key, value) in outer.values where fields.values[key] == nil { fields.values[key] = value }
                break
            }
        }
        let layers = fields.required("num_hidden_layers", "n_layer", "num_layers", in: 1...1000)
        let hidden = fields.required("hidden_size", "n_embd", "d_model", in: 16...200_000)
        let heads = fields.required("num_attention_heads", "n_head", in: 1...4096)
        let vocabulary = fields.required("vocab_size", in: 1...10_000_000)
        guard let layers, let hidden, let heads, let vocabulary else { return nil }
        let headDimension = fields.integer("head_dim", in: 8...4096) ?? max(hidden / heads, 8)
        let kvHeads = fields.integer("num_key_value_heads", in: 1...4096) ?? heads
        let latent = fields.integer("kv_lora_rank", in: counts) ?? 0
        let rope = latent > 0 ? fields.integer("qk_rope_head_dim", in: counts) ?? 64 : 0
        let weights = weights(
            fields,
            layers: layers,
            hidden: hidden,
            heads: heads,
            kvHeads: kvHeads,
            headDimension: headDimension
        )
        let isTied = fields.values["tie_word_embeddings"]?.bool() ?? false
        let embeddings = Double(vocabulary) * Double(hidden) * (isTied ? 1 : 2)
        let windows = windows(fields, layers: layers)
        return ModelFacts(
            name: ModelName(name).identity,
            parameters: weights.total + embeddings,
            activeParameters: weights.active + embeddings,
            layers: layers,
            hiddenSize: hidden,
            attentionHeads: heads,
            kvHeads: min(kvHeads, heads),
            headDimension: headDimension,
            experts: weights.experts,
            expertsPerToken: weights.used,
            windowedLayers: windows.layers,
            window: windows.tokens,
            latentDimension: latent > 0 ? latent + rope : 0,
            nativeDtype: dtype(fields),
            source: "config.json"
        )
    }

    private struct Weights {
        var total: Double
        var active: Double
        var experts: Int
        var used: Int
    }

    /// Parameters of all layers. Norms and biases are left out: a thousandth.
    private static func weights(
        _ fields: Fields,
        layers: Int,
        hidden: Int,
        heads: Int,
        kvHeads: Int,
        headDimension: Int
    ) -> Weights {
        let (h, l) = (Double(hidden), Double(layers))
        let attention: Double
        if let latent = fields.integer("kv_lora_rank", in: counts), latent > 0 {
            // Queries and the latent of MLA are made by two low-rank products each.
            let rope = Double(fields.integer("qk_rope_head_dim", in: counts) ?? 64)
            let plain = Double(fields.integer("qk_nope_head_dim", in: counts) ?? 128)
            let value = Double(fields.integer("v_head_dim", in: counts) ?? 128)
            let rank = Double(fields.integer("q_lora_rank", in: counts) ?? 0)
            let query = Double(heads) * (plain + rope)
            let queries = rank > 0 ? h * rank + rank * query : h * query
            attention =
                queries + h * (Double(latent) + rope) + Double(latent) * Double(heads) * (plain + value)
                + Double(heads) * value * h
        } else {
            let d = Double(headDimension)
            attention = 2 * h * Double(heads) * d + 2 * h * Double(kvHeads) * d
        }
        let intermediate = Double(fields.integer("intermediate_size", "n_inner", in: sizes) ?? 4 * hidden)
        let experts = fields.integer("num_experts", "num_local_experts", "n_routed_experts", in: counts) ?? 0
        guard experts > 1 else {
            let all = l * (attention + 3 * h * intermediate)
            return Weights(total: all, active: all, experts: 0, used: 0)
        }
        let used = min(fields.integer("num_experts_per_tok", "experts_per_token", in: 1...4096) ?? 2, experts)
        let width = Double(fields.integer("moe_intermediate_size", in: sizes) ?? Int(intermediate))
        let sharedExperts = Double(fields.integer("n_shared_experts", in: counts) ?? 0)
        let shared =
            Double(fields.integer("shared_expert_intermediate_size", in: counts) ?? 0) + sharedExperts * width
        let dense = Double(min(fields.integer("first_k_dense_replace", in: counts) ?? 0, layers))
        let common = l * attention + dense * 3 * h * intermediate + (l - dense) * (3 * h * shared + h * Double(experts))
        let expert = (l - dense) * 3 * h * width
        return Weights(
            total: common + expert * Double(experts),
            active: common + expert * Double(used),
            experts: experts,
            used: used
        )
    }

    /// Layers whose attention stops at a window.
    private static func windows(_ fields: Fields, layers: Int) -> (layers: Int, tokens: Int) {
        guard let window = fields.integer("sliding_window", in: 1...10_000_000) else { return (0, 0) }
        if let types = fields.values["layer_types"], types.isList {
            let windowed = types.list(maxCount: 1000).count { $0.string()?.contains("sliding") ?? false }
            return windowed > 0 ? (min(windowed, layers), window) : (0, 0)
        }
        if let pattern = fields.integer("sliding_window_pattern", in: 1...1000), pattern > 1 {
            return (layers - layers / pattern, window)
        }
        if let used = fields.values["use_sliding_window"], used.bool() == false { return (0, 0) }
        // A window that every layer has limits the context, not the growth of KV within it.
        return (0, 0)
    }

    private static func dtype(_ fields: Fields) -> WeightDtype {
        if let quantization = fields.values["quantization_config"], quantization.isObject {
            let inner = Fields(quantization)
            let method = inner.values["quant_method"]?.string() ?? inner.values["quant_algo"]?.string() ?? ""
            if let dtype = WeightDtype(named: method) { return dtype }
            switch inner.integer("bits", "w_bit", in: 1...32) {
            case 4: return .int4
            case 8: return .fp8
            default: return .fp8
            }
        }
        return .bfloat16
    }
}
