// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The shape of a model: what its weights and its KV cache weigh, and what a token costs to compute.
package struct ModelFacts: Sendable, Hashable, Codable {
    /// Canonical: lower case, without the publisher, such as `llama-3.1-70b`.
    package var name: String
    /// Other names of models with this very shape. A trailing `*` matches any rest.
    package var aliases: [String]
    package var parameters: Double
    /// Parameters that one token passes through: fewer than `parameters` for a mixture of experts.
    package var activeParameters: Double
    package var layers: Int
    package var hiddenSize: Int
    package var attentionHeads: Int
    package var kvHeads: Int
    package var headDimension: Int
    /// Experts per layer and those each token uses; both 0 for a dense model.
    package var experts: Int
    package var expertsPerToken: Int
    /// Layers whose attention stops at a window, and the window in tokens. Their KV does not grow beyond it.
    package var windowedLayers: Int
    package var window: Int
    /// Latent values per token and layer of multi-head latent attention (MLA); 0 = ordinary KV heads.
    /// The latent is held whole by every rank: tensor parallelism does not divide it.
    package var latentDimension: Int
    /// What the published weights are in.
    package var nativeDtype: WeightDtype
    /// True where the model is only ever served in its native dtype, whatever a deployment calls it: a label
    /// `bfloat16` on gpt-oss names the dtype of its activations.
    package var isNativeOnly: Bool
    package var isVerified: Bool
    package var source: String

    package init(
        name: String,
        aliases: [String] = [],
        parameters: Double,
        activeParameters: Double? = nil,
        layers: Int,
        hiddenSize: Int,
        attentionHeads: Int,
        kvHeads: Int,
        headDimension: Int,
        experts: Int = 0,
        expertsPerToken: Int = 0,
        windowedLayers: Int = 0,
        window: Int = 0,
        latentDimension: Int = 0,
        nativeDtype: WeightDtype = .bfloat16,
        isNativeOnly: Bool = false,
        isVerified: Bool = true,
        source: String = ""
    ) {
        self.name = name
        self.aliases = aliases
        self.parameters = parameters
        self.activeParameters = activeParameters ?? parameters
        self.layers = layers
        self.hiddenSize = hiddenSize
        self.attentionHeads = attentionHeads
        self.kvHeads = kvHeads
        self.headDimension = headDimension
        self.experts = experts
        self.expertsPerToken = expertsPerToken
        self.windowedLayers = windowedLayers
        self.window = window
        self.latentDimension = latentDimension
        self.nativeDtype = nativeDtype
        self.isNativeOnly = isNativeOnly
        self.isVerified = isVerified
        self.source = source
    }

    package var isMixtureOfExperts: Bool { experts > 1 && activeParameters < parameters }

    /// Parameters of all experts together, from parameters = dense + experts and active = dense + experts · k / E.
    package var expertParameters: Double {
        guard isMixtureOfExperts, expertsPerToken < experts else { return 0 }
        let share = Double(expertsPerToken) / Double(experts)
        return min((parameters - activeParameters) / (1 - share), parameters)
    }

    /// KV bytes that one more token adds at the end of a long context, one copy, the layers without a window.
    package func kvBytesPerToken(dtype: KVDtype) -> Double {
        let growing = Double(max(layers - windowedLayers, windowedLayers >= layers ? layers : 1))
        if latentDimension > 0 { return growing * Double(latentDimension) * dtype.bytes }
        return growing * 2 * Double(kvHeads) * Double(headDimension) * dtype.bytes
    }

    /// How many copies of a token's KV a pod of this tensor parallelism holds: ranks share KV heads as long as there
    /// are enough of them; the latent of MLA is never divided.
    package func kvCopies(tensorParallel: Int) -> Double {
        let ranks = Double(max(tensorParallel, 1))
        if latentDimension > 0 { return ranks }
        return max(1, ranks / Double(max(kvHeads, 1)))
    }

    package func weightBytes(dtype: WeightDtype) -> Double { parameters * dtype.bytesPerParameter }
}

/// The number format of a KV cache. What pods must agree on before they exchange it.
package enum KVDtype: String, Sendable, Hashable, Codable, CaseIterable {
    case bfloat16, fp8

    package var bytes: Double { self == .fp8 ? 1 : 2 }

    /// Understands what `--kv-cache-dtype` of the engines takes; `auto` and nothing mean bfloat16, whatever the
    /// weights are in. nil = not a known name.
    package init?(named name: String) {
        switch KVDtype.letters(name) {
        case "", "auto", "bfloat16", "bf16", "float16", "fp16", "half": self = .bfloat16
        case "fp8", "fp8e4m3", "fp8e5m2", "fp8inc", "fp8dsmla", "float8", "int8": self = .fp8
        default: return nil
        }
    }

    /// The very format of the cached numbers, as `KVLayout` compares it: what is alike in size may still differ in every
    /// bit. A name that nobody knows stands for itself, so that its pods exchange KV with their like only.
    package static func format(named name: String) -> String {
        switch letters(name) {
        case "", "auto", "bfloat16", "bf16": "bfloat16"
        case "float16", "fp16", "half": "float16"
        case "fp8", "fp8e4m3", "float8": "fp8"
        case "fp8e5m2": "fp8_e5m2"
        case "fp8inc": "fp8_inc"
        case "fp8dsmla": "fp8_ds_mla"
        default: NameTable.key(name)
        }
    }

    private static func letters(_ name: String) -> String {
        name.lowercased().filter { $0 != "_" && $0 != "-" && $0 != " " }
    }
}
