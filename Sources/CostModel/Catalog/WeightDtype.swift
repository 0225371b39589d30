// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The number format of a model's weights as it is served.
package enum WeightDtype: String, Sendable, Hashable, Codable, CaseIterable {
    case bfloat16, fp8, fp4, int4

    /// Bytes of one parameter, scales and the layers that stay in 16 bits included where they matter:
    /// 4-bit checkpoints keep scales per 16 to 128 weights and 16-bit embeddings (about 12 % more).
    package var bytesPerParameter: Double {
        switch self {
        case .bfloat16: 2
        case .fp8: 1
        case .fp4, .int4: 0.5625
        }
    }

    /// What a configuration, a command line of a model server or a checkpoint calls it. nil = not a known name.
    package init?(named name: String) {
        switch name.lowercased().filter({ $0 != "_" && $0 != "-" && $0 != "." && $0 != " " }) {
        case "bfloat16", "bf16", "float16", "fp16", "half", "16": self = .bfloat16
        case "fp8", "float8", "fp8e4m3", "fp8e5m2", "fp8block", "fp8static", "w8a8", "int8", "mxfp8", "float8e4m3fn":
            self = .fp8
        case "fp4", "mxfp4", "nvfp4", "float4", "modeloptfp4": self = .fp4
        case "int4", "awq", "awqmarlin", "gptq", "gptqmarlin", "w4a16", "gptqint4", "4bit", "bnb4bit": self = .int4
        default: return nil
        }
    }
}
