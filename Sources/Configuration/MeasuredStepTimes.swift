// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Reads known step times: `accelerator,model,tp,dtype,kind,new_tokens,prefix_tokens,decode_batch,decode_ctx,step_ms`,
/// where `decode_ctx` is the context of each decoding sequence.
package enum MeasuredStepTimes {
    /// By the label of the configuration, as `FittedConfiguration.label`. Rows that lack a figure are left out.
    package static func read(_ table: CSVTable, _ catalog: ProfileCatalog) -> [String: [StepTime]] {
        var result: [String: [StepTime]] = [:]
        var labels: [String: String] = [:]
        let columns = ["accelerator", "model", "tp", "dtype"].map { table.column($0) }
        let kind = table.column("kind")
        let numbers = ["new_tokens", "prefix_tokens", "decode_batch", "decode_ctx", "step_ms"].map { table.column($0) }
        for row in 0..<table.count {
            guard let phase = StepTime.Phase(rawValue: table.text(row, kind)) else { continue }
            let values = numbers.map { table.number(row, $0) ?? -1 }
            guard values.allSatisfy({ $0 >= 0 }), values[4] > 0 else { continue }
            let names = columns.map { table.text(row, $0) }
            let key = names.joined(separator: "\u{0}")
            let label: String
            if let known = labels[key] {
                label = known
            } else {
                let model = catalog.modelName(names[1])
                let dtype = catalog.weightDtype(names[3], model: model).rawValue
                label = "\(catalog.acceleratorName(names[0]))/\(model)/tp\(names[2])/\(dtype)"
                labels[key] = label
            }
            result[label, default: []].append(
                StepTime(
                    phase: phase,
                    newTokens: values[0],
                    cachedTokens: values[1],
                    batch: values[2],
                    kvTokens: values[2] * values[3],
                    duration: Seconds(milliseconds: values[4])
                )
            )
        }
        return result
    }
}
