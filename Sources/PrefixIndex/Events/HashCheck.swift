// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The run-time self-check of one publisher: where its hashes can be recomputed from its tokens, they are, for its first
/// prompts and then for one in many. A publisher that was recognized once and then is not says that tokens, boundaries or
/// salts are read otherwise than its engine means them.
struct HashCheck: Sendable {
    enum Result: Sendable, Hashable {
        case recognized
        /// Recognized before, and not now.
        case different
    }

    /// A way of hashing: the digest of its seed is the parent of every prompt's first block.
    private struct Way {
        var algorithm: EngineBlockHash.Algorithm
        var root: [UInt8]
    }

    /// The way that has been recognized.
    private var way: Way?
    private var seen = 0

    /// A look takes at most eight SHA-256 of a few hundred bytes: some microseconds.
    private static let firstLooks = 4
    private static let looksBetween = 1_024
    /// What PYTHONHASHSEED is mostly set to, where it is set.
    private static let usualWays = [EngineBlockHash.defaultSeed, "0", "42", "1"].flatMap { seed in
        EngineBlockHash.Algorithm.allCases.map { Way(algorithm: $0, root: EngineBlockHash.root($0, seed: seed)) }
    }

    /// - Returns: nil where the event cannot be checked, or need not be now.
    mutating func look(_ event: KVEvent) -> Result? {
        // What an adapter adds to the hash is not told.
        guard event.parent == nil, event.adapter == nil, event.extraKeys.isEmpty, event.blockSize > 0,
            unsafe !event.hashes.isEmpty, unsafe event.tokens.count >= event.blockSize
        else { return nil }
        defer { seen &+= 1 }
        guard seen < Self.firstLooks || (way != nil && seen % Self.looksBetween == 0) else { return nil }
        let tokens = unsafe event.tokens.prefix(event.blockSize)
        for way in way.map({ [$0] }) ?? Self.usualWays {
            let digest = unsafe EngineBlockHash.block(way.algorithm, parent: way.root, tokens: tokens)
            guard unsafe EngineBlockHash.event(digest) == event.hashes[0] else { continue }
            self.way = way
            return .recognized
        }
        return way == nil ? nil : .different
    }
}
