// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel

/// One end-to-end run of a real server: `system,backend,mode,model_path,precision,tp_size,isl,osl,concurrency,tpot_ms`.
struct ServerRun {
    var accelerator: String
    var model: String
    var engine: String
    /// `whole`: each rank holds a part of every layer; else how attention or experts are spread.
    var layout: String
    var estimate: PhaseEstimate
    /// Milliseconds per output token.
    var measured: Double

    private static let counted: Set<String> = ["llama-3.1-70b", "gpt-oss-120b", "qwen3-32b"]
    private static let shown: Set<String> = counted.union(["llama-3.1-8b", "qwen3-235b-a22b"])
    /// Milliseconds: beyond it a server was saturated.
    private static let greatestTTFT = 10_000.0

    /// Of the table beside the target.
    var isShown: Bool { engine == "vllm" && ServerRun.shown.contains(model) }
    /// Part of the target: the others' TPOT leaves out other requests' prefill, or is far slower than the kernels.
    var isCounted: Bool { engine == "vllm" && ServerRun.counted.contains(model) }

    static func read(_ table: CSVTable, _ catalog: ProfileCatalog) -> [ServerRun] {
        (0..<table.count).compactMap { row in
            guard table.text(row, "mode") == "agg", let measured = table.number(row, "tpot_ms"), measured > 0,
                let ttft = table.number(row, "ttft_ms"), ttft < greatestTTFT,
                let batch = table.number(row, "concurrency") ?? table.number(row, "batch_size")
            else { return nil }
            let spread = [("attention_dp_size", "attention"), ("moe_ep_size", "experts"), ("pp_size", "layers")]
                .filter { (table.number(row, $0.0) ?? 1) > 1 }.map(\.1)
            return run(
                table,
                row,
                catalog,
                names: (table.text(row, "system"), table.text(row, "model_path"), table.text(row, "backend")),
                ranks: table.number(row, "tp_size"),
                layout: spread.isEmpty ? "whole" : "spread " + spread.joined(separator: ", "),
                batch: batch,
                measured: measured
            )
        }
    }

    /// Points that vendors and others have published, with their parallelism: those without are left out.
    static func readPublished(_ table: CSVTable, _ catalog: ProfileCatalog) -> [ServerRun] {
        (0..<table.count).compactMap { row in
            guard let measured = table.number(row, "tpot_ms"), measured > 0,
                let batch = table.number(row, "concurrency")
            else { return nil }
            let accelerator = table.text(row, "accelerator")
            return run(
                table,
                row,
                catalog,
                names: (
                    accelerator, table.text(row, "model"),
                    table.text(row, "source").contains("sglang") ? "sglang" : "vllm"
                ),
                ranks: table.number(row, "tp"),
                layout: "published, \(catalog.acceleratorName(accelerator))",
                batch: batch,
                measured: measured
            )
        }
    }

    private static func run(
        _ table: CSVTable,
        _ row: Int,
        _ catalog: ProfileCatalog,
        names: (accelerator: String, model: String, engine: String),
        ranks: Double?,
        layout: String,
        batch: Double,
        measured: Double
    ) -> ServerRun? {
        guard let ranks, (1...1024).contains(ranks), let input = table.number(row, "isl"),
            let output = table.number(row, "osl")
        else { return nil }
        let pod = catalog.resolve(
            ProfileQuery(
                accelerator: names.accelerator,
                model: names.model,
                tensorParallel: Int(ranks),
                dtype: table.text(row, "precision"),
                engine: names.engine
            )
        )
        return ServerRun(
            accelerator: pod.accelerator,
            model: pod.model,
            engine: names.engine,
            layout: layout,
            estimate: pod.profile.closedLoopEstimate(batch: batch, input: input, output: output),
            measured: measured
        )
    }
}
