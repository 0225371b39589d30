// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Foundation
import PrefixIndex

/// `epp-pd-bench index`: size and speed of the exact prefix index, and whether its answers are right.
struct IndexBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "index",
        abstract: "Fill the prefix index from KV events, look up, remove a tenth, check.",
        discussion: """
            Bytes are growth of resident size per different (worker, block) pair, after a warm-up. Exit codes: 0, 1 when \
            an answer was wrong, 2 wrong usage.
            """
    )

    @Option(help: "Pods that hold blocks.") var workers = 64
    @Option(help: "Prompts in all, dealt round to the workers.") var prompts = 8_000
    @Option(help: "Blocks of 16 tokens per prompt.") var blocks = 128
    @Option(help: "Blocks at the start that all prompts share.") var sharedBlocks = 16
    @Option(help: "Workers that get each prompt.") var replicas = 1
    @Option(help: "Byte budget of the index, in MiB.") var budget = 4_096
    @Flag(help: "Report the approximate index beside it.") var keysOnly = false
    @Flag(help: "Print one JSON object.") var json = false

    func validate() throws {
        guard workers > 0, prompts > 0, blocks > 0, replicas > 0, workers <= 16_000,
            (0...blocks).contains(sharedBlocks),
            blocks <= 8_192, replicas <= workers, budget >= 8, budget <= 65_536
        else {
            throw ValidationError(
                "workers 1…16000, blocks 1…8192, shared blocks 0…blocks, replicas 1…workers, budget 8…65536"
            )
        }
    }

    func run() throws {
        let workload = IndexWorkload(
            workers: workers,
            prompts: prompts,
            blocks: blocks,
            sharedBlocks: sharedBlocks,
            replicas: replicas
        )
        var report = IndexReport()
        report.workers = workers
        report.prompts = prompts
        report.blocks = blocks
        report.shared_blocks = sharedBlocks
        report.replicas = replicas
        report.worker_blocks = workload.pairs
        let runs = IndexRuns(workload: workload, budget: budget << 20)
        try runs.warmUp()
        try runs.ingest(&report)
        try runs.insert(&report)
        try runs.pauses(&report)
        try runs.deep(&report)
        if keysOnly { report.keys_only = try runs.keysOnly() }
        try write(report)
        if report.wrong_answers > 0 { throw ExitCode(1) }
    }

    private func write(_ report: IndexReport) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = json ? [.sortedKeys] : [.sortedKeys, .prettyPrinted]
        print(String(decoding: try encoder.encode(report), as: UTF8.self))
    }
}
