// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A prompt cut in blocks, as keys that the prefix index understands. Holds no prompt text.
package struct PrefixKeys: Sendable, Hashable, Codable {
    /// What the blocks were cut from: keys of different kinds never match each other.
    package enum Kind: String, Sendable, Hashable, Codable {
        /// Chunks of the prompt's text: approximate, learned from routing.
        case text
        /// Blocks of token ids, as engines' KV events name them.
        case tokens
    }

    package var kind: Kind
    /// Tokens per block; an estimate where the blocks are of text.
    package var tokensPerBlock: Double
    /// One local (unchained) hash per full block, in order. The index chains them by position, so that blocks can be
    /// hashed independently; the first one tells cache salts apart, and for text also models.
    package var hashes: [UInt64]
    /// The model asked for, where the hashes do not hold it: the index tells adapters apart by it.
    package var model: String?

    /// More blocks than any prompt of today fills (131,072 tokens of 16 each); what lies behind them is not looked up.
    package static let maxBlocks = 8_192
    /// The most that a hasher can be told to keep: one-token blocks of a 131,072-token prompt.
    package static let mostBlocks = 131_072

    /// The same for blocks of another size: as many tokens of smaller ones.
    static func maxBlocks(ofTokens tokensPerBlock: Int) -> Int { max(maxBlocks, mostBlocks / max(tokensPerBlock, 1)) }

    package init(kind: Kind, tokensPerBlock: Double, hashes: [UInt64], model: String? = nil) {
        self.kind = kind
        self.tokensPerBlock = tokensPerBlock
        self.hashes = hashes
        self.model = model
    }

    package static let none = PrefixKeys(kind: .text, tokensPerBlock: 16, hashes: [])
}
