// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What engines said of prompts' tokens, by the text that the prompts begin with: a prompt whose start was cut into tokens
/// before need not be cut again to know that part's keys.
///
/// Text and tokens have no common boundaries, so how many tokens belong to a start of the text is not computed but seen:
/// two prompts that part behind k chunks of text, and whose tokens part behind n, show that k chunks are at least n tokens
/// less those of one chunk. Until a second prompt has shown that, the engine is asked.
///
/// Bounded by entries and bytes; the oldest entry goes first.
package struct TokenKeyCache: Sendable {
    package struct Found: Sendable, Hashable {
        /// Keys of the part that is known.
        package var keys: PrefixKeys
        /// Chunks of the text that they stand for.
        package var textBlocks: Int
    }

    private struct Entry {
        var chains: [UInt64]
        var keys: PrefixKeys

        /// A chain has its hash, its place in the dictionary and the dictionary's slack.
        var bytes: Int { chains.count * 48 + keys.hashes.count * 8 + 128 }
    }

    private struct Node {
        var entry: Int
        /// Units of tokens that these chunks of text are known to have.
        var units: UInt32 = 0
    }

    private let budget: Int
    private let bytesPerTextBlock: Int
    private var entries: [Int: Entry] = [:]
    private var nodes: [UInt64: Node] = [:]
    private var first = 0
    private var next = 0
    package private(set) var bytes = 0

    /// Chunks of one prompt that are kept: 130,000 tokens of English.
    package static let maxTextBlocks = 2_048

    package init(budget: Int, bytesPerTextBlock: Int = TextKeyHasher.defaultBytesPerBlock) {
        self.budget = max(budget, 0)
        self.bytesPerTextBlock = max(bytesPerTextBlock, 1)
    }

    package var count: Int { entries.count }

    /// The keys of as much of the prompt's start as is known, where that is at least `share` of its text.
    package func find(_ text: PrefixKeys, share: Double) -> Found? {
        var chain: UInt64 = 0
        var best: (node: Node, blocks: Int)?
        for (index, hash) in text.hashes.prefix(Self.maxTextBlocks).enumerated() {
            chain = BlockHash.joined(chain, hash)
            guard let node = nodes[chain] else { break }
            if node.units > 0 { best = (node, index + 1) }
        }
        guard let best, Double(best.blocks) >= share * Double(text.hashes.count),
            var keys = entries[best.node.entry]?.keys
        else { return nil }
        keys.hashes = Array(keys.hashes.prefix(Int(best.node.units)))
        return Found(keys: keys, textBlocks: best.blocks)
    }

    /// An engine has cut a prompt into tokens.
    package mutating func insert(_ text: PrefixKeys, _ keys: PrefixKeys) {
        guard !text.hashes.isEmpty, !keys.hashes.isEmpty else { return }
        var chains: [UInt64] = []
        var chain: UInt64 = 0
        for hash in text.hashes.prefix(Self.maxTextBlocks) {
            chain = BlockHash.joined(chain, hash)
            chains.append(chain)
        }
        learnBoundary(chains, keys)
        let known = chains.firstIndex { nodes[$0] == nil } ?? chains.count
        guard known < chains.count else { return }
        let entry = Entry(chains: Array(chains[known...]), keys: keys)
        guard entry.bytes <= budget else { return }
        while bytes + entry.bytes > budget { evictOldest() }
        entries[next] = entry
        bytes += entry.bytes
        for chain in entry.chains { nodes[chain] = Node(entry: next) }
        next += 1
    }

    /// The longest start that another prompt has in common shows how many tokens it has at least.
    private mutating func learnBoundary(_ chains: [UInt64], _ keys: PrefixKeys) {
        guard let shared = chains.lastIndex(where: { nodes[$0] != nil }), let node = nodes[chains[shared]],
            let other = entries[node.entry]?.keys, other.tokensPerBlock == keys.tokensPerBlock
        else { return }
        let same = zip(other.hashes, keys.hashes).prefix { $0 == $1 }.count
        // No token is shorter than a byte: a chunk of text has at most as many tokens as bytes.
        let margin = Int((Double(bytesPerTextBlock) / max(keys.tokensPerBlock, 1)).rounded(.up))
        let units = UInt32(clamping: max(same - margin, 0))
        if units > node.units { nodes[chains[shared]]?.units = units }
    }

    private mutating func evictOldest() {
        while first < next {
            defer { first += 1 }
            guard let entry = entries.removeValue(forKey: first) else { continue }
            bytes -= entry.bytes
            for chain in entry.chains where nodes[chain]?.entry == first { nodes[chain] = nil }
            return
        }
    }
}
