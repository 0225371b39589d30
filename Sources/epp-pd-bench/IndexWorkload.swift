// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import PrefixIndex

/// Prompts dealt round to workers, the first blocks common to all, with engine hashes that mean nothing.
struct IndexWorkload {
    static let blockSize = 16

    var workers: Int
    var prompts: Int
    var blocks: Int
    var sharedBlocks: Int
    var replicas: Int

    /// Token ids as a vocabulary of 150,000 has them.
    func tokens(_ prompt: Int) -> [UInt32] {
        var tokens: [UInt32] = []
        tokens.reserveCapacity(blocks * Self.blockSize)
        append(to: &tokens, seed: 0, blocks: sharedBlocks)
        append(to: &tokens, seed: UInt64(prompt) + 1, blocks: blocks - sharedBlocks)
        return tokens
    }

    private func append(to tokens: inout [UInt32], seed: UInt64, blocks: Int) {
        var random = WorkloadRandom(seed)
        for _ in 0..<(blocks * Self.blockSize) { tokens.append(UInt32(((random.next() >> 32) &* 150_000) >> 32)) }
    }

    /// One per block: equal for equal chains, and otherwise random.
    func hashes(_ prompt: Int) -> [UInt64] {
        var shared = WorkloadRandom(0x5A5A)
        var own = WorkloadRandom(UInt64(prompt) &+ 0xABCD_0000)
        return (0..<blocks).map { $0 < sharedBlocks ? shared.next() : own.next() }
    }

    func payload(_ prompt: Int) -> [UInt8] {
        var encoder = KVEventEncoder()
        encoder.stored(hashes(prompt), parent: nil, tokens: tokens(prompt), blockSize: Self.blockSize)
        return encoder.batch(time: Double(prompt))
    }

    func keys(_ prompt: Int) -> PrefixKeys {
        var hasher = TokenKeyHasher(model: nil, cacheSalt: nil, tokensPerBlock: Self.blockSize)
        hasher.update(tokens(prompt))
        return hasher.finish()
    }

    /// The workers that get a prompt.
    func holders(_ prompt: Int) -> [Int] { (0..<min(replicas, workers)).map { (prompt + $0) % workers } }

    /// Different (worker, block) pairs in all.
    var pairs: Int {
        let busy = min(workers, prompts + replicas - 1)
        return busy * sharedBlocks + prompts * min(replicas, workers) * (blocks - sharedBlocks)
    }

    /// Blocks that the events name.
    var named: Int { prompts * min(replicas, workers) * blocks }
}
