// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Attention, layers and weights as a `config.json` states them.
struct ModelConfigShape {
    private let fields: ModelConfigFields
    private let layers: Int
    private let hidden: Int
    private let heads: Int
    let headDimension: Int
    let kvHeads: Int
    /// Values per token and layer of multi-head latent attention, 0 without.
    let latentDimension: Int
    /// Layers of linear attention: their state does not grow with the context.
    private let linearLayers: Int

    init(_ fields: ModelConfigFields, layers: Int, hidden: Int, heads: Int) {
        self.fields = fields
        self.layers = layers
        self.hidden = hidden
        self.heads = heads
        let counts = ModelConfigFile.counts
        let latent = fields.integer("kv_lora_rank", in: counts) ?? 0
        latentDimension = latent > 0 ? latent + (fields.integer("qk_rope_head_dim", in: counts) ?? 64) : 0
        // With a latent, hidden ÷ heads says nothing: heads have the width of their values.
        let width =
            latent > 0
            ? fields.integer("v_head_dim", "qk_nope_head_dim", in: 8...4096) ?? 128 : max(hidden / heads, 8)
        headDimension = fields.integer("head_dim", in: 8...4096) ?? width
        // Falcon and GPT-BigCode of one KV head state it by a flag, and a number that does not hold.
        let isMultiQuery =
            fields.flag("multi_query") == true && fields.flag("new_decoder_architecture") != true
        let stated = fields.integer("num_key_value_heads", "num_kv_heads", in: 1...4096)
        kvHeads = min(isMultiQuery ? 1 : stated ?? heads, heads)
        if let types = fields.strings("layer_types") {
            linearLayers = min(types.count { $0.contains("linear") }, layers)
        } else if let interval = fields.integer("full_attention_interval", in: 1...1000), interval > 1 {
            linearLayers = layers - layers / interval
        } else {
            linearLayers = 0
        }
    }

    /// Layers whose KV stops growing, and the tokens at which it does.
    var windows: (layers: Int, tokens: Int) {
        if linearLayers > 0 { return (linearLayers, max(stateTokens, 1)) }
        let types = fields.strings("layer_types")
        // Llama 4: three of four layers attend within chunks.
        if let chunk = fields.integer("attention_chunk_size", in: 1...10_000_000), fields.family.hasPrefix("llama4") {
            let chunked = types.map { $0.count { $0.contains("chunked") } } ?? layers - layers / 4
            return chunked > 0 ? (min(chunked, layers), chunk) : (0, 0)
        }
        guard let window = fields.integer("sliding_window", in: 1...10_000_000) else { return (0, 0) }
        if let types {
            let windowed = types.count { $0.contains("sliding") }
            return windowed > 0 ? (min(windowed, layers), window) : (0, 0)
        }
        if let pattern = fields.integer("sliding_window_pattern", in: 1...1000), pattern > 1 {
            return (layers - layers / pattern, window)
        }
        // Gemma 2: every second layer.
        if fields.family == "gemma2" { return (layers - layers / 2, window) }
        // A window that every layer has limits the context, not the growth of KV within it.
        return (0, 0)
    }

    /// The state of a linear layer (one matrix of key by value per head), in tokens whose KV would be as large.
    private var stateTokens: Int {
        let heads = fields.integer("linear_num_value_heads", in: 1...4096) ?? self.heads
        let key = fields.integer("linear_key_head_dim", in: 1...4096) ?? headDimension
        let value = fields.integer("linear_value_head_dim", in: 1...4096) ?? headDimension
        return heads * key * value / (2 * kvHeads * headDimension)
    }

    struct Weights {
        var total: Double
        var active: Double
        var experts: Int
        var used: Int
    }

    /// Parameters of all layers. Norms and biases are left out: a thousandth.
    var weights: Weights {
        let counts = ModelConfigFile.counts
        let (h, l) = (Double(hidden), Double(layers))
        let attention =
            l > 0 ? (Double(linearLayers) * linearAttention + (l - Double(linearLayers)) * fullAttention) : 0
        let stated = fields.integer("intermediate_size", "n_inner", "ffn_hidden_size", in: ModelConfigFile.sizes)
        let intermediate = Double(stated ?? 4 * hidden)
        // Gate, up and down; older families have no gate.
        let matrices = ungated.contains(fields.family) ? 2.0 : 3.0
        let experts =
            fields.integer("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", in: counts) ?? 0
        guard experts > 1 else {
            let all = attention + l * matrices * h * intermediate
            return Weights(total: all, active: all, experts: 0, used: 0)
        }
        let used = fields.integer("num_experts_per_tok", "experts_per_token", "moe_k", "moe_topk", in: 1...4096) ?? 2
        let width = Double(fields.integer("moe_intermediate_size", in: ModelConfigFile.sizes) ?? Int(intermediate))
        let sharedWidth =
            Double(fields.integer("shared_expert_intermediate_size", in: counts) ?? 0)
            + Double(fields.integer("n_shared_experts", in: counts) ?? 0) * width
            // Llama 4 has one shared expert in each such layer, and does not say so.
            + (fields.family.hasPrefix("llama4") ? width : 0)
        let mixed = Double(expertLayers)
        let denseWidth = Double(fields.integer("intermediate_size_mlp", in: ModelConfigFile.sizes) ?? Int(intermediate))
        let common =
            attention + (l - mixed) * matrices * h * denseWidth
            + mixed * (matrices * h * sharedWidth + h * Double(experts))
        let expert = mixed * matrices * h * width
        return Weights(
            total: common + expert * Double(experts),
            active: common + expert * Double(min(used, experts)),
            experts: experts,
            used: min(used, experts)
        )
    }

    /// Layers that have experts.
    private var expertLayers: Int {
        let counts = ModelConfigFile.counts
        let step =
            fields.integer("interleave_moe_layer_step", "decoder_sparse_step", "moe_layer_freq", in: 0...1000) ?? 1
        let plain = fields.values["mlp_only_layers"].map { $0.isList ? $0.list(maxCount: 1000).count : 0 } ?? 0
        let first = fields.integer("first_k_dense_replace", in: counts) ?? 0
        return min(max((layers - first) / max(step, 1) - plain, 0), layers)
    }

    private var ungated: Set<String> {
        ["falcon", "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "bloom", "opt", "mpt", "phi", "starcoder2"]
    }

    private var fullAttention: Double {
        let counts = ModelConfigFile.counts
        let h = Double(hidden)
        guard latentDimension > 0, let latent = fields.integer("kv_lora_rank", in: counts) else {
            let d = Double(headDimension)
            // Queries and output; hybrids with linear layers gate the output as well.
            let wide = linearLayers > 0 ? 3.0 : 2.0
            return wide * h * Double(heads) * d + 2 * h * Double(kvHeads) * d
        }
        // Queries and the latent of MLA are made by two low-rank products each.
        let rope = Double(latentDimension - latent)
        let plain = Double(fields.integer("qk_nope_head_dim", in: counts) ?? 128)
        let value = Double(fields.integer("v_head_dim", in: counts) ?? 128)
        let rank = Double(fields.integer("q_lora_rank", in: counts) ?? 0)
        let query = Double(heads) * (plain + rope)
        let queries = rank > 0 ? h * rank + rank * query : h * query
        return queries + h * (Double(latent) + rope) + Double(latent) * Double(heads) * (plain + value)
            + Double(heads) * value * h
    }

    /// Gated linear attention: keys and queries, values and their gate, output.
    private var linearAttention: Double {
        let keys =
            Double(fields.integer("linear_num_key_heads", in: 1...4096) ?? heads)
            * Double(fields.integer("linear_key_head_dim", in: 1...4096) ?? headDimension)
        let values =
            Double(fields.integer("linear_num_value_heads", in: 1...4096) ?? heads)
            * Double(fields.integer("linear_value_head_dim", in: 1...4096) ?? headDimension)
        return Double(hidden) * (2 * keys + 3 * values)
    }
}
