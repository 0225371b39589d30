// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Predictions for the rows of a table: `kind,accelerator,model,tp,dtype,new_tokens,cached_tokens,batch,kv_tokens`, and
/// for `tpot` rows `isl,osl,concurrency` (or `batch_size`). Other columns pass through.
package struct PredictionTable {
    /// Why a row has no prediction.
    package struct Unparsable: Sendable, Hashable {
        package var line: Int
        package var reason: String
    }

    private let catalog: ProfileCatalog
    private let table: CSVTable
    private var resolved: [String: ProfileResolution] = [:]
    package private(set) var unparsable: [Unparsable] = []
    /// Rows by the rung that their prediction stands on.
    package private(set) var sources: [ProfileSource: Int] = [:]

    package static let addedColumns = "predicted_ms,error_low_ms,error_high_ms,source"
    /// Errors beyond these are counted, not kept.
    private static let mostReported = 20
    package private(set) var unparsableCount = 0

    package init(catalog: ProfileCatalog, table: CSVTable) {
        self.catalog = catalog
        self.table = table
    }

    package var rows: Int { table.count }

    /// Gives each line of the answer to `line`, the header first, without line ends.
    package mutating func predict(_ line: ([UInt8]) -> Void) {
        line(Array((table.header.map(PredictionTable.quoted).joined(separator: ",") + "," + Self.addedColumns).utf8))
        for row in 0..<table.count {
            var text = Array(table.raw(row))
            switch estimate(row) {
            case .success(let (estimate, origin)):
                sources[estimate.source, default: 0] += 1
                let numbers = [estimate.mean, estimate.low, estimate.high].map { "\($0.milliseconds)" }
                let source = PredictionTable.quoted("\(estimate.source.rawValue) \(origin)")
                text += Array(("," + numbers.joined(separator: ",") + "," + source).utf8)
            case .failure(let problem):
                unparsableCount += 1
                if unparsable.count < Self.mostReported {
                    unparsable.append(Unparsable(line: table.line(of: row), reason: problem.reason))
                }
                text += Array(",,,,".utf8)
            }
            line(text)
        }
    }

    private struct Problem: Error {
        var reason: String
    }

    private mutating func estimate(_ row: Int) -> Result<(PhaseEstimate, String), Problem> {
        do throws(Problem) {
            guard table.isWhole(row) else { throw Problem(reason: "has not as many fields as the header") }
            let kind = table.text(row, "kind").lowercased()
            guard ["prefill", "decode", "step", "tpot"].contains(kind) else {
                throw Problem(reason: "kind must be prefill, decode, step or tpot, not \"\(kind)\"")
            }
            let pod = try resolve(row, defaultEngine: kind == "tpot" ? "vllm" : nil)
            let profile = pod.profile
            switch kind {
            case "prefill":
                let new = try number(row, "new_tokens", needed: true)
                let cached = try number(row, "cached_tokens", needed: false)
                return .success((profile.prefillEstimate(newTokens: Int(new), cachedTokens: Int(cached)), pod.origin))
            case "decode":
                let batch = try number(row, "batch", needed: true)
                let kv = try number(row, "kv_tokens", needed: true)
                return .success((profile.decodeEstimate(batch: batch, kvTokens: kv), pod.origin))
            case "step":
                let estimate = profile.stepEstimate(
                    newTokens: try number(row, "new_tokens", needed: false),
                    cachedTokens: try number(row, "cached_tokens", needed: false),
                    batch: try number(row, "batch", needed: false),
                    kvTokens: try number(row, "kv_tokens", needed: false)
                )
                return .success((estimate, pod.origin))
            default:
                let concurrency = table.text(row, "concurrency").isEmpty ? "batch_size" : "concurrency"
                let estimate = profile.closedLoopEstimate(
                    batch: try number(row, concurrency, needed: true),
                    input: try number(row, "isl", needed: true),
                    output: try number(row, "osl", needed: true)
                )
                return .success((estimate, pod.origin))
            }
        } catch {
            return .failure(error)
        }
    }

    private mutating func resolve(_ row: Int, defaultEngine: String?) throws(Problem) -> ProfileResolution {
        let names = ["accelerator", "model", "tp", "dtype", "engine", "kv_dtype"].map { table.text(row, $0) }
        guard !names[0].isEmpty else { throw Problem(reason: "accelerator is missing") }
        guard !names[1].isEmpty else { throw Problem(reason: "model is missing") }
        let engine = names[4].isEmpty ? defaultEngine : names[4]
        let key = names.joined(separator: "\u{0}") + "\u{0}" + (engine ?? "")
        if let known = resolved[key] { return known }
        var ranks = 1
        if !names[2].isEmpty {
            guard let value = Double(names[2]), value.rounded() == value, (1...1024).contains(value) else {
                throw Problem(reason: "tp must be an integer from 1 to 1024, not \"\(names[2])\"")
            }
            ranks = Int(value)
        }
        let resolution = catalog.resolve(
            ProfileQuery(
                accelerator: names[0],
                model: names[1],
                tensorParallel: ranks,
                dtype: names[3],
                engine: engine,
                kvDtype: names[5]
            )
        )
        resolved[key] = resolution
        return resolution
    }

    /// More tokens than any model takes, and far from what could overflow.
    private static let greatest = 1e9

    private func number(_ row: Int, _ name: String, needed: Bool) throws(Problem) -> Double {
        let text = table.text(row, name)
        if text.isEmpty, !needed { return 0 }
        guard let value = table.number(row, name), (0...Self.greatest).contains(value) else {
            throw Problem(reason: "\(name) must be a number from 0 to \(Self.greatest), not \"\(text)\"")
        }
        return value
    }

    private static func quoted(_ text: String) -> String {
        guard text.contains(where: { $0 == "," || $0 == "\"" || $0 == "\n" || $0 == "\r" }) else { return text }
        return "\"" + text.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
    }
}
