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
            let kind = text(row, "kind").lowercased()
            guard ["prefill", "decode", "step", "tpot"].contains(kind) else {
                throw Problem(reason: "kind must be prefill, decode, step or tpot, not \"\(kind)\"")
            }
            let pod = try resolve(row, defaultEngine: kind == "tpot" ? "vllm" : nil)
            let profile = pod.profile
            switch kind {
            case "prefill":
                let new = try number(row, "new_tokens")
                let cached = try number(row, "cached_tokens")
                let estimate = profile.prefillEstimate(newTokens: Int(tokens: new), cachedTokens: Int(tokens: cached))
                return .success((estimate, pod.origin))
            case "decode":
                let batch = try number(row, "batch")
                let kv = try number(row, "kv_tokens")
                return .success((profile.decodeEstimate(batch: batch, kvTokens: kv), pod.origin))
            case "step":
                let estimate = profile.stepEstimate(
                    newTokens: try number(row, "new_tokens"),
                    cachedTokens: try number(row, "cached_tokens"),
                    batch: try number(row, "batch"),
                    kvTokens: try number(row, "kv_tokens")
                )
                return .success((estimate, pod.origin))
            default:
                let concurrency = text(row, "concurrency").isEmpty ? "batch_size" : "concurrency"
                let estimate = profile.closedLoopEstimate(
                    batch: try number(row, concurrency),
                    input: try number(row, "isl"),
                    output: try number(row, "osl")
                )
                return .success((estimate, pod.origin))
            }
        } catch {
            return .failure(error)
        }
    }

    private mutating func resolve(_ row: Int, defaultEngine: String?) throws(Problem) -> ProfileResolution {
        let names = ["accelerator", "model", "tp", "dtype", "engine", "kv_dtype"].map { text(row, $0) }
        guard !names[0].isEmpty else { throw Problem(reason: "accelerator is missing") }
        guard !names[1].isEmpty else { throw Problem(reason: "model is missing") }
        let engine = names[4].isEmpty ? defaultEngine : names[4]
        let key = names.joined(separator: "\u{0}") + "\u{0}" + (engine ?? "")
        if let known = resolved[key] { return known }
        var ranks = 1
        if !names[2].isEmpty {
            guard let value = Double(names[2]), value.rounded() == value, value >= 1 else {
                throw Problem(reason: "tp must be an integer of at least 1, not \"\(names[2])\"")
            }
            ranks = Int(min(value, Self.mostRanks))
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

    /// Far beyond any figure that makes sense, and from what could overflow: more is taken as this.
    private static let greatest = 1e12
    private static let mostRanks = 1024.0

    /// Blanks around a field, as aligned tables have them, do not count.
    private func text(_ row: Int, _ name: String) -> String {
        let field = table.text(row, name)
        let isBlank = { (character: Character) in character == " " || character == "\t" }
        guard field.first.map(isBlank) ?? false || field.last.map(isBlank) ?? false else { return field }
        guard let first = field.firstIndex(where: { !isBlank($0) }), let last = field.lastIndex(where: { !isBlank($0) })
        else { return "" }
        return String(field[first...last])
    }

    /// An absent figure counts as 0.
    private func number(_ row: Int, _ name: String) throws(Problem) -> Double {
        let text = text(row, name)
        if text.isEmpty { return 0 }
        guard let value = Double(text), value.isFinite, value >= 0 else {
            throw Problem(reason: "\(name) must be a number of at least 0, not \"\(text)\"")
        }
        return min(value, Self.greatest)
    }

    private static func quoted(_ text: String) -> String {
        guard text.contains(where: { $0 == "," || $0 == "\"" || $0 == "\n" || $0 == "\r" }) else { return text }
        return "\"" + text.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
    }
}
