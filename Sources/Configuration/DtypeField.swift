// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

extension DocumentValue {
    /// The number format of a model's weights, in any case and under any name that `WeightDtype` knows.
    package func weightDtype() -> WeightDtype? {
        guard let text = string(maxLength: 64) else { return nil }
        if let dtype = WeightDtype(named: text) { return dtype }
        reject("must be bfloat16 (bf16), fp8, fp4 (mxfp4, nvfp4) or int4 (awq, gptq, w4a16), not \(text)")
        return nil
    }
}

extension DocumentObject {
    /// As above, nil where the key is absent or its value empty: then the model's native format is meant.
    package func weightDtype(_ key: String) -> WeightDtype? {
        guard let value = optional(key), value.string(allowsEmpty: true)?.isEmpty == false else { return nil }
        return value.weightDtype()
    }
}

extension WeightDtype {
    /// True for what a command line may say: any known name, or nothing at all for the model's native format.
    package static func isAccepted(_ text: String) -> Bool { text.isEmpty || WeightDtype(named: text) != nil }
}
