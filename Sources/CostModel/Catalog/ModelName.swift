// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A model's name taken apart: who it is, and what its name says of the dtype of its weights.
package struct ModelName: Sendable, Hashable {
    /// The model's identity among pods: lower case, without publisher and dtype. Pods with different identities never
    /// exchange KV, even where their shapes are the same.
    package var identity: String
    /// The dtype that a suffix such as `-FP8` or `-AWQ` names.
    package var dtype: WeightDtype?

    private static let dtypeSuffixes: [(suffix: String, dtype: WeightDtype)] = [
        ("-fp8-dynamic", .fp8), ("-fp8-kv", .fp8), ("-fp8", .fp8), ("-w8a8", .fp8), ("-quantized.w8a8", .fp8),
        ("-nvfp4", .fp4), ("-mxfp4", .fp4), ("-fp4", .fp4),
        ("-gptq-int4", .int4), ("-awq-int4", .int4), ("-gptq", .int4), ("-awq", .int4), ("-int4", .int4),
        ("-quantized.w4a16", .int4), ("-w4a16", .int4), ("-bnb-4bit", .int4),
        ("-bf16", .bfloat16), ("-bfloat16", .bfloat16), ("-fp16", .bfloat16),
    ]

    package init(_ name: String) {
        // A path or `publisher/model`: the last component names the model.
        let last = name.split(separator: "/", omittingEmptySubsequences: true).last.map(String.init) ?? name
        var key = NameTable.key(last)
        if key.hasPrefix("meta-llama") { key = String(key.dropFirst("meta-".count)) }
        for (suffix, dtype) in ModelName.dtypeSuffixes where key.hasSuffix(suffix) && key.count > suffix.count {
            key = String(key.dropLast(suffix.count))
            self.dtype = dtype
            break
        }
        if dtype == nil {
            // Within the name, as in `llama-3.1-70b-fp8-instruct`: the first part names the model.
            let parts = key.split(separator: "-")
            if let at = parts.indices.dropFirst().first(where: { ModelName.dtypeParts[String(parts[$0])] != nil }) {
                dtype = ModelName.dtypeParts[String(parts[at])]
                key = (parts[..<at] + parts[(at + 1)...]).joined(separator: "-")
            }
        }
        identity = key
    }

    private static let dtypeParts: [String: WeightDtype] = [
        "fp8": .fp8, "w8a8": .fp8, "fp4": .fp4, "nvfp4": .fp4, "mxfp4": .fp4, "int4": .int4, "awq": .int4,
        "gptq": .int4,
        "w4a16": .int4, "bf16": .bfloat16, "bfloat16": .bfloat16,
    ]

    /// Billions of parameters that the name states, such as 13 in `foo-13b-chat` or 0.6 in `bar-0.6b`, as a number of
    /// parameters, and the active ones of a mixture, such as 3 in `30b-a3b`.
    package var statedParameters: (total: Double, active: Double?)? {
        var total: Double?
        var active: Double?
        for part in identity.split(separator: "-") {
            guard part.last == "b", part.count > 1 else { continue }
            let number = part.dropLast()
            if number.first == "a", let value = Double(number.dropFirst()), value > 0 {
                active = active ?? value * 1e9
            } else if let value = Double(number), value > 0 {
                total = total ?? value * 1e9
            } else if let at = number.firstIndex(of: "x"), let experts = Double(number[..<at]),
                let each = Double(number[number.index(after: at)...]), experts > 0, each > 0
            {
                // 8x7b: experts share attention and embeddings, so the sum is some 17 % less (Mixtral: 46.7 of 56).
                total = total ?? experts * each * 0.83e9
                active = active ?? each * 1.8e9
            }
        }
        guard let total, total.isFinite, total <= ModelName.greatestParameters else { return nil }
        return (total, active.map { min($0, total) })
    }

    /// No model has more: a name that says so says something else.
    private static let greatestParameters = 20e12
}
