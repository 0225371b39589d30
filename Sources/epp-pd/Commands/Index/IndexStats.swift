// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Foundation
import PrefixIndex

/// `epp-pd index stats`: what a snapshot holds.
struct IndexStats: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stats",
        abstract: "Say what a snapshot of the prefix index holds.",
        discussion: """
            Example:
              epp-pd index replay --frames captures/run1 --query prompts.json --snapshot run1.eppx
              epp-pd index stats run1.eppx --json

            Exit codes: 0, 1 when the file is damaged, of a later version or no snapshot, 2 wrong usage.
            """
    )

    @Argument(help: "A snapshot.")
    var file: String
    @Flag(help: "Print one JSON object.")
    var json = false

    struct Report: Encodable {
        var file_bytes: Int
        var unit_tokens: Int
        var publishers: Int
        var doubtful_publishers: Int
        var hash_domains: Int
        /// Different blocks, and (publisher, tier, block) entries.
        var blocks: Int
        var held_blocks: Int
        /// Further copies and blocks of equal first name bits, which stand in side tables.
        var blocks_with_copies: Int
        var twins: Int
        var chunks: Int
        var memory_bytes: Int
        var memory_bytes_per_held_block: Double
    }

    func run() throws {
        guard let data = try? Data(contentsOf: URL(filePath: file)) else {
            Console.error("\(file): cannot be read")
            throw ExitCode(1)
        }
        let index: EventPrefixIndex
        do {
            // No snapshot needs more memory than some times its size.
            index = try EventPrefixIndex(snapshot: Array(data), budget: max(256 << 20, 8 * data.count))
        } catch {
            Console.error("\(file): \(error)")
            throw ExitCode(1)
        }
        let statistics = index.statistics
        let report = Report(
            file_bytes: data.count,
            unit_tokens: index.unit,
            publishers: statistics.sources,
            doubtful_publishers: statistics.doubtfulSources,
            hash_domains: statistics.domains,
            blocks: statistics.trie.blocks,
            held_blocks: statistics.trie.heldBlocks,
            blocks_with_copies: statistics.trie.duplicates,
            twins: statistics.trie.twins,
            chunks: statistics.trie.chunks,
            memory_bytes: statistics.trie.bytes,
            memory_bytes_per_held_block: Double(statistics.trie.bytes) / Double(max(statistics.trie.heldBlocks, 1))
        )
        let encoder = JSONEncoder()
        encoder.outputFormatting = json ? [.sortedKeys] : [.sortedKeys, .prettyPrinted]
        print(String(decoding: try encoder.encode(report), as: UTF8.self))
    }
}
