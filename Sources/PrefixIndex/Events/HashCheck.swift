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

    private var algorithm: EngineBlockHash.Algorithm?
    private var seed = EngineBlockHash.defaultSeed
    private var seen = 0

    /// A check takes two SHA-256 of a few hundred bytes: some microseconds.
    private static let firstLooks = 8
    private static let looksBetween = 1_024
    /// What PYTHONHASHSEED is mostly set to, where it is set.
    private static let usualSeeds = [EngineBlockHash.defaultSeed, "0", "42", "1"]

    /// - Returns: nil where the event cannot be checked, or need not be now.
    mutating func look(_ event: KVEvent) -> Result? {
        // What an adapter adds to the hash is not told.
        guard event.parent == nil, event.adapter == nil, event.extraKeys.isEmpty, event.blockSize > 0,
            unsafe !event.hashes.isEmpty, unsafe event.tokens.count >= event.blockSize
        else { return nil }
        defer { seen &+= 1 }
        guard seen < Self.firstLooks || (algorithm != nil && seen % Self.looksBetween == 0) else { return nil }
        for seed in algorithm == nil ? Self.usualSeeds : [seed] {
            let found = unsafe EngineBlockHash.recognize(
                hashes: event.hashes.prefix(1),
                tokens: event.tokens.prefix(event.blockSize),
                blockSize: event.blockSize,
                seed: seed
            )
            guard let found else { continue }
            (algorithm, self.seed) = (found, seed)
            return .recognized
        }
        return algorithm == nil ? nil : .different
    }
}
