// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import CAllocations
import Configuration
import CostModel
import Foundation

/// `epp-pd-bench predict`: nanoseconds and heap allocations of one prediction.
struct PredictBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "predict",
        abstract: "Measure the processor time and the heap allocations of predictions.",
        discussion: """
            One phase is a prefill, a decode step, a transfer or a mixed step; a pair is a prefill, its transfer and the \
            decode step, of two pods that differ. Times are processor time of this thread, the least of five tries.
            """
    )

    @Option(help: "Folder of profiles.") var profiles = "profiles"
    @Option(help: "Predictions of each kind.") var rounds = 2_000_000
    @Flag(help: "Print one JSON object.") var json = false
    @Flag(help: "Fail where a prediction takes more than 20 ns, a pair more than 60 ns, or any of them allocates.")
    var check = false

    /// Targets, in nanoseconds.
    private static let phaseLimit = 20.0
    private static let pairLimit = 60.0
    private static let tries = 5

    func validate() throws {
        guard (1...1_000_000_000).contains(rounds) else { throw ValidationError("rounds 1…1000000000") }
    }

    func run() throws {
        let before = allocations_of_thread()
        let catalog = try ProfileLoader.load(folder: profiles)
        guard allocations_of_thread() > before else { throw ValidationError("allocations are not counted here") }
        let report = PredictReport(rounds: rounds, predictions: measure(catalog))
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys]
            print(String(decoding: try encoder.encode(report), as: UTF8.self))
        } else {
            print("prediction      ns   allocations")
            for row in report.predictions {
                print(
                    row.kind.padding(toLength: 12, withPad: " ", startingAt: 0)
                        + String(format: "%6.1f %13llu", row.ns, row.allocations)
                )
            }
        }
        guard check else { return }
        let isMet = report.predictions.allSatisfy {
            $0.allocations == 0 && $0.ns <= ($0.kind == "pair" ? Self.pairLimit : Self.phaseLimit)
        }
        if !isMet { throw ExitCode(1) }
    }

    private func measure(_ catalog: ProfileCatalog) -> [PredictReport.Row] {
        let p = catalog.profile(accelerator: "h100-sxm", model: "llama-3.1-70b", tensorParallel: 4, dtype: "fp8")
        let d = catalog.profile(accelerator: "h200-sxm", model: "llama-3.1-70b", tensorParallel: 2, dtype: "fp8")
        let transfer = KVTransfer(from: p, to: d, repacks: true)
        return [
            row("prefill") { p.prefill.duration(newTokens: 100 + $0 & 8191, cachedTokens: $0 & 1023).rawValue },
            row("decode") { d.decode.step(batch: Double($0 & 255), kvTokens: Double($0)).rawValue },
            row("transfer") { transfer.exposed(tokens: Double($0 & 16383), prefill: Seconds(0.1)).rawValue },
            row("step") { round in
                let n = Double(round & 2047)
                return p.mixed.step(newTokens: n, pairs: n * n / 2, chunkContext: n, batch: 16, kvTokens: Double(round))
                    .rawValue
            },
            row("pair") { round in
                let first = p.prefill.duration(newTokens: 100 + round & 8191, cachedTokens: 0)
                let exposed = transfer.exposed(tokens: Double(round & 16383), prefill: first)
                let step = d.decode.step(batch: Double(round & 255), kvTokens: Double(round))
                return first.rawValue + exposed.rawValue + step.rawValue
            },
        ]
    }

    private func row(_ kind: String, _ predict: (Int) -> Double) -> PredictReport.Row {
        var least = Double.infinity
        var sum = 0.0
        let before = allocations_of_thread()
        for _ in 0..<Self.tries {
            let start = Measurement.processor
            for round in 0..<rounds { sum += predict(round) }
            least = min(least, Measurement.processor - start)
        }
        let allocations = allocations_of_thread() - before
        return PredictReport.Row(
            kind: kind,
            ns: least * 1e9 / Double(rounds),
            allocations: allocations,
            mean_ms: sum * 1e3 / Double(rounds * Self.tries)
        )
    }
}

/// What the measurement found.
struct PredictReport: Encodable {
    var rounds: Int
    var predictions: [Row]

    struct Row: Encodable {
        var kind: String
        var ns: Double
        /// In all rounds together.
        var allocations: UInt64
        /// Of what was predicted: keeps the optimiser from leaving it out.
        var mean_ms: Double
    }
}
