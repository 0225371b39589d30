// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The fields of a model's `config.json`, with what its family takes where a file leaves a field out.
struct ModelConfigFields {
    let place: DocumentValue
    private(set) var values: [String: DocumentValue]
    private let assumptions = Assumptions()

    /// What was taken from the family: shared by copies, confined to the thread that reads.
    private final class Assumptions {
        var names: [String] = []
    }

    init(_ value: DocumentValue) {
        place = value
        values = Dictionary(
            value.entries().filter { !$0.value.isNull }.map { ($0.key, $0.value) },
            uniquingKeysWith: { first, _ in first }
        )
    }

    /// Models that also see or hear keep the language model's shape apart; what it lacks stands outside.
    static func ofLanguageModel(_ root: DocumentValue) -> ModelConfigFields {
        let outer = ModelConfigFields(root)
        for key in ["text_config", "llm_config", "language_config", "thinker_config"] {
            guard let value = outer.values[key], value.isObject else { continue }
            var inner = ofLanguageModel(value)
            for (key, value) in outer.values where inner.values[key] == nil { inner.values[key] = value }
            return inner
        }
        return outer
    }

    /// `gemma3_text`, `llama`, …; empty where the file does not say.
    var family: String { values["model_type"]?.string() ?? "" }

    /// Fields that were taken from the family's defaults, in the order of their use.
    var assumed: [String] { assumptions.names }

    /// The first of these that is there; nil where none is and the family has no default.
    func integer(_ keys: String..., in range: ClosedRange<Int>) -> Int? { first(keys, range) }

    func required(_ keys: String..., in range: ClosedRange<Int>) -> Int? {
        if let value = first(keys, range) { return value }
        if !keys.contains(where: { values[$0] != nil }) { place.reject("\(keys[0]) is required") }
        return nil
    }

    func flag(_ key: String) -> Bool? { values[key]?.bool() }

    /// The strings of a list, nil where there is none.
    func strings(_ key: String) -> [String]? {
        guard let value = values[key], value.isList else { return nil }
        return value.list(maxCount: 1000).compactMap { $0.string() }
    }

    private func first(_ keys: [String], _ range: ClosedRange<Int>) -> Int? {
        for key in keys { if let value = values[key] { return value.integer(in: range) } }
        for key in keys {
            guard let value = Self.defaults(of: family)[key] else { continue }
            if !assumptions.names.contains(key) { assumptions.names.append(key) }
            return value
        }
        return nil
    }

    /// Defaults of Hugging Face's configuration classes, of families whose publishers leave fields out.
    private static func defaults(of family: String) -> [String: Int] {
        switch family {
        case "gemma3", "gemma3_text":
            [
                "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
                "sliding_window_pattern": 6,
            ]
        case "gemma2":
            ["vocab_size": 256_000, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256]
        case "gemma": ["vocab_size": 256_000, "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256]
        case "llama4", "llama4_text":
            [
                "vocab_size": 202_048, "hidden_size": 5120, "num_hidden_layers": 48, "num_attention_heads": 40,
                "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192, "intermediate_size_mlp": 16_384,
                "num_local_experts": 16, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1,
                "attention_chunk_size": 8192,
            ]
        default: [:]
        }
    }
}
