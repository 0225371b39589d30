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
    /// One local (unchained) hash per full block, in order, seeded with model and cache salt. The index chains them by
    /// position, so that blocks can be hashed independently.
    package var hashes: [UInt64]

    package init(kind: Kind, tokensPerBlock: Double, hashes: [UInt64]) {
        self.kind = kind
        self.tokensPerBlock = tokensPerBlock
        self.hashes = hashes
    }

    package static let none = PrefixKeys(kind: .text, tokensPerBlock: 16, hashes: [])
}
