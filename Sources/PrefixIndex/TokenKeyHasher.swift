// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Cuts token ids into blocks of equal size and hashes each, as the ids arrive.
///
/// The size of a block is the fleet's *unit*: the greatest length of which every engine's block size is a multiple. The
/// index folds the units of a larger block into one hash, so that one list of keys serves pods of mixed block sizes.
///
/// The model is carried beside the hashes and not in them: engines do not hash it either, and the index knows better
/// than the request which names are adapters.
package struct TokenKeyHasher: Sendable {
    /// vLLM's default block size on GPUs.
    package static let defaultTokensPerBlock = 16

    private let tokensPerBlock: Int
    private let model: String?
    private let seed: UInt64
    private let maxBlocks: Int
    private var hashes: [UInt64] = []
    private var partial: [UInt32] = []
    /// Tokens seen, those behind the last block kept included.
    package private(set) var tokenCount = 0

    /// - Parameters:
    ///   - model: the name under which the pods serve the request; kept in the keys.
    ///   - cacheSalt: the request's `cache_salt`; prompts with different salts share nothing.
    ///   - tokensPerBlock: the unit; at least 1.
    ///   - maxBlocks: tokens behind so many blocks are counted, but not hashed. nil: 131,072 tokens' worth, or 8,192.
    package init(
        model: String?,
        cacheSalt: String?,
        tokensPerBlock: Int = defaultTokensPerBlock,
        maxBlocks: Int? = nil
    ) {
        self.tokensPerBlock = max(tokensPerBlock, 1)
        self.model = model
        let most = maxBlocks ?? PrefixKeys.maxBlocks(ofTokens: self.tokensPerBlock)
        self.maxBlocks = min(max(most, 0), PrefixKeys.mostBlocks)
        seed = BlockHash.seed(model: nil, cacheSalt: cacheSalt)
    }

    /// The next token ids.
    package mutating func update(_ tokens: UnsafeBufferPointer<UInt32>) {
        tokenCount += tokens.count
        guard let start = tokens.baseAddress, hashes.count < maxBlocks else { return }
        var offset = 0
        let count = tokens.count
        if !partial.isEmpty {
            offset = min(tokensPerBlock - partial.count, count)
            unsafe partial.append(contentsOf: UnsafeBufferPointer(start: start, count: offset))
            guard partial.count == tokensPerBlock else { return }
            unsafe partial.withUnsafeBufferPointer { block in
                guard let start = block.baseAddress else { return }
                unsafe close(start)
            }
            partial.removeAll(keepingCapacity: true)
        }
        let blocks = min((count - offset) / tokensPerBlock, maxBlocks - hashes.count)
        unsafe closeAll(start + offset, blocks)
        offset += blocks * tokensPerBlock
        guard hashes.count < maxBlocks, offset < count else { return }
        unsafe partial.append(contentsOf: UnsafeBufferPointer(start: start + offset, count: count - offset))
    }

    /// The next token ids.
    package mutating func update(_ tokens: [UInt32]) {
        unsafe tokens.withUnsafeBufferPointer { unsafe update($0) }
    }

    /// The next token id.
    package mutating func append(_ token: UInt32) {
        unsafe withUnsafePointer(to: token) { unsafe update(UnsafeBufferPointer(start: $0, count: 1)) }
    }

    /// Keys of the full blocks.
    package func finish() -> PrefixKeys {
        PrefixKeys(kind: .tokens, tokensPerBlock: Double(tokensPerBlock), hashes: hashes, model: model)
    }

    /// Hashes whole blocks in a row: the long prompts' way.
    private mutating func closeAll(_ start: UnsafePointer<UInt32>, _ blocks: Int) {
        guard blocks > 0 else { return }
        let size = tokensPerBlock
        var more = unsafe [UInt64](unsafeUninitializedCapacity: blocks) { target, count in
            guard let target = target.baseAddress else { return }
            unsafe BlockHash.tokens(start, size: size, blocks: blocks, to: target)
            count = blocks
        }
        if hashes.isEmpty {
            more[0] = BlockHash.seeded(more[0], by: seed)
            hashes = more
        } else {
            hashes += more
        }
    }

    private mutating func close(_ block: UnsafePointer<UInt32>) {
        let hash = unsafe BlockHash.tokens(block, count: tokensPerBlock)
        hashes.append(hashes.isEmpty ? BlockHash.seeded(hash, by: seed) : hash)
    }
}
