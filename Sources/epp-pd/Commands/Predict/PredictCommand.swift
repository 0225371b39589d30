// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel
import Foundation

/// `epp-pd predict`: what the cost model says, for one phase or for the rows of a table.
struct PredictCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "predict",
        abstract: "Predict durations and dollars from profiles.",
        discussion: """
            Examples:
              epp-pd predict prefill --accelerator h100-sxm --model llama-3.1-70b --tp 4 --dtype fp8 --new-tokens 8192
              epp-pd predict decode --accelerator h200 --model qwen3-32b --batch 32 --kv-tokens 100000 --json
              epp-pd predict transfer --accelerator h100 --to-accelerator a100 --model llama-3.1-70b --tp 4 --to-tp 8 \
            --tokens 8192
              epp-pd predict --rows rows.csv.gz --output predicted.csv

            Columns of --rows: kind,accelerator,model,tp,dtype,new_tokens,cached_tokens,batch,kv_tokens (kind: prefill, \
            decode, step, tpot; what is absent or empty counts as 0, tp as 1); tpot takes isl,osl,concurrency or batch_size, and vllm's \
            end-to-end correction unless a column engine says otherwise. Others pass through. Added: \
            \(PredictionTable.addedColumns).

            Exit codes: 0, 1 when a row could not be parsed (its prediction is empty), 2 wrong usage or no table.
            """,
        subcommands: [
            PredictPrefill.self, PredictDecode.self, PredictStep.self, PredictTransfer.self, PredictRequest.self,
            PredictRows.self,
        ],
        defaultSubcommand: PredictRows.self
    )
}

/// `epp-pd predict --rows`. A subcommand of its own: options of the parent would take those of its children.
struct PredictRows: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rows",
        abstract: "Predict the rows of a table; the default, so that `predict --rows FILE` is enough."
    )

    @OptionGroup var profiles: ProfileOptions
    @Option(help: "A table of rows to predict: CSV, plain or gzip.")
    var rows: String?
    @Option(help: "Where the table with predictions is written; - = standard output.")
    var output = "-"
    @Flag(help: "Print a summary as one JSON object on one line.")
    var json = false

    func validate() throws {
        guard !json || output != "-" else {
            throw ValidationError("--json needs --output FILE: standard output is then for its one line")
        }
    }

    private struct Summary: Encodable {
        var rows: Int
        var predicted: Int
        var unparsable: Int
        var sources: [String: Int]
    }

    func run() throws {
        guard let rows else {
            throw ValidationError("say what to predict: a subcommand, or --rows FILE; see --help")
        }
        let catalog = try profiles.catalog()
        let table: CSVTable
        do {
            table = CSVTable(bytes: try DataFile.bytes(path: rows))
        } catch {
            Console.error("\(rows): \(error)")
            throw ExitCode(2)
        }
        guard table.header != [""] else {
            Console.error("\(rows): is empty: a header line with the columns' names is needed")
            throw ExitCode(2)
        }
        var predictions = PredictionTable(catalog: catalog, table: table)
        var text = Data()
        predictions.predict {
            text.append(contentsOf: $0)
            text.append(UInt8(ascii: "\n"))
        }
        try write(text)
        for problem in predictions.unparsable { Console.error("\(rows):\(problem.line): \(problem.reason)") }
        let summary = Summary(
            rows: predictions.rows,
            predicted: predictions.rows - predictions.unparsableCount,
            unparsable: predictions.unparsableCount,
            sources: Dictionary(uniqueKeysWithValues: predictions.sources.map { ($0.key.rawValue, $0.value) })
        )
        if json {
            print(try JSONLine.encode(summary))
        } else if output != "-" {
            print("\(summary.predicted) of \(summary.rows) rows predicted, \(summary.unparsable) unparsable")
        }
        if summary.unparsable > 0 { throw ExitCode(1) }
    }

    private func write(_ text: Data) throws {
        guard output != "-" else {
            FileHandle.standardOutput.write(text)
            return
        }
        do {
            try text.write(to: URL(filePath: output), options: .atomic)
        } catch {
            Console.error("\(output): cannot be written: \(error.localizedDescription)")
            throw ExitCode(1)
        }
    }
}
