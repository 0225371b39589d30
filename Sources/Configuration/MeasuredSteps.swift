// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Reads measured engine steps: `experiment_id,model,tp,step_ms,prefill_tokens,decode_tokens,kv_tokens`.
package enum MeasuredSteps {
    package struct Experiment: Sendable, Hashable {
        package var name: String
        package var model: String
        package var tensorParallel: Int
        package var steps: [MeasuredStep]
    }

    package struct Failure: Error, Sendable, Hashable, CustomStringConvertible {
        package var line: Int
        package var description: String
    }

    /// In order of appearance; the steps of one experiment need not stand together.
    package static func experiments(_ table: CSVTable) throws(Failure) -> [Experiment] {
        let needed = ["experiment_id", "model", "tp", "step_ms", "prefill_tokens", "decode_tokens", "kv_tokens"]
        let missing = needed.filter { table.column($0) == nil }
        guard missing.isEmpty else {
            throw Failure(line: 1, description: "the header lacks \(missing.joined(separator: ", "))")
        }
        var order: [String: Int] = [:]
        var result: [Experiment] = []
        for row in 0..<table.count {
            func number(_ name: String, from least: Double) throws(Failure) -> Double {
                if let value = table.number(row, name), value >= least, value <= 1e9 { return value }
                let text = table.text(row, name)
                throw Failure(
                    line: table.line(of: row),
                    description: "\(name) must be a number of at least \(least), not \"\(text)\""
                )
            }
            let step = MeasuredStep(
                prefillTokens: try number("prefill_tokens", from: 0),
                decodeTokens: try number("decode_tokens", from: 0),
                kvTokens: try number("kv_tokens", from: 0),
                duration: Seconds(milliseconds: try number("step_ms", from: 1e-6))
            )
            let name = table.text(row, "experiment_id")
            let ranks = Int(try number("tp", from: 1))
            if let at = order[name] {
                result[at].steps.append(step)
            } else {
                order[name] = result.count
                let model = table.text(row, "model")
                result.append(Experiment(name: name, model: model, tensorParallel: ranks, steps: [step]))
            }
        }
        return result
    }
}
