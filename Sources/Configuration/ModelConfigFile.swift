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

    static let sizes = 1...1_000_000
    static let counts = 0...1_000_000

    private static func facts(_ root: DocumentValue, name: String) -> ModelFacts? {
        let fields = ModelConfigFields.ofLanguageModel(root)
        let layers = fields.required("num_hidden_layers", "n_layer", "num_layers", in: 1...1000)
        let hidden = fields.required("hidden_size", "n_embd", "d_model", in: 16...200_000)
        let heads = fields.required("num_attention_heads", "n_head", in: 1...4096)
        let vocabulary = fields.required("vocab_size", in: 1...10_000_000)
        guard let layers, let hidden, let heads, let vocabulary else { return nil }
        let shape = ModelConfigShape(fields, layers: layers, hidden: hidden, heads: heads)
        let weights = shape.weights
        // Counted as publishers count: tokens' embeddings are looked up, not multiplied, and yet part of what is active.
        let embeddings = Double(vocabulary) * Double(hidden) * (isTied(fields) ? 1 : 2)
        let windows = shape.windows
        let dtype = dtype(fields)
        let assumed = fields.assumed + (dtype == nil ? ["dtype"] : [])
        return ModelFacts(
            name: ModelName(name).identity,
            parameters: weights.total + embeddings,
            activeParameters: weights.active + embeddings,
            layers: layers,
            hiddenSize: hidden,
            attentionHeads: heads,
            kvHeads: shape.kvHeads,
            headDimension: shape.headDimension,
            experts: weights.experts,
            expertsPerToken: weights.used,
            windowedLayers: windows.layers,
            window: windows.tokens,
            latentDimension: shape.latentDimension,
            nativeDtype: dtype ?? .bfloat16,
            isVerified: assumed.isEmpty,
            source: assumed.isEmpty ? "config.json" : "config.json; assumed: \(assumed.joined(separator: ", "))"
        )
    }

    /// One matrix for tokens in and out.
    private static func isTied(_ fields: ModelConfigFields) -> Bool {
        let family = fields.family
        return fields.flag("tie_word_embeddings") ?? (family.hasPrefix("gemma") || family == "falcon")
    }

    /// nil where a quantization is stated that nobody here knows.
    private static func dtype(_ fields: ModelConfigFields) -> WeightDtype? {
        guard let quantization = fields.values["quantization_config"], quantization.isObject else { return .bfloat16 }
        let inner = ModelConfigFields(quantization)
        let method = inner.values["quant_method"]?.string() ?? ""
        // NVIDIA's Model Optimizer states the algorithm apart from the method: NVFP4, FP8, W4A16_AWQ.
        for name in [inner.values["quant_algo"]?.string() ?? "", method] where !name.isEmpty {
            if let bits = inner.integer("bits", "w_bit", in: 1...32), !name.lowercased().contains("fp") {
                return bits <= 4 ? .int4 : .fp8
            }
            if let dtype = WeightDtype(named: name) { return dtype }
            if name.lowercased().hasPrefix("w4") { return .int4 }
        }
        if inner.flag("load_in_4bit") == true { return .int4 }
        if inner.flag("load_in_8bit") == true { return .fp8 }
        if let groups = inner.values["config_groups"], groups.isObject { return weights(of: groups) }
        // AMD's Quark.
        if let all = inner.values["global_quant_config"], all.isObject,
            let weight = ModelConfigFields(all).values["weight"], weight.isObject,
            let name = ModelConfigFields(weight).values["dtype"]?.string()
        {
            return WeightDtype(named: name)
        }
        if let bits = inner.integer("bits", "w_bit", in: 1...32) { return bits <= 4 ? .int4 : .fp8 }
        return method.lowercased().contains("fp8") ? .fp8 : nil
    }

    /// compressed-tensors: groups of layers, each with the format of its weights. The narrowest has most of them.
    private static func weights(of groups: DocumentValue) -> WeightDtype? {
        var narrowest: (bits: Int, isFloat: Bool)?
        for (_, group) in groups.entries(maxCount: 1000) where group.isObject {
            guard let weights = ModelConfigFields(group).values["weights"], weights.isObject else { continue }
            let format = ModelConfigFields(weights)
            guard let bits = format.integer("num_bits", in: 1...32) else { continue }
            if bits < narrowest?.bits ?? 16 { narrowest = (bits, format.values["type"]?.string() == "float") }
        }
        guard let narrowest else { return nil }
        if narrowest.bits > 4 { return .fp8 }
        return narrowest.isFloat ? .fp4 : .int4
    }
}
