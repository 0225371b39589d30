// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Tokens without a vocabulary: each run of four bytes of text is one token, and its bytes are its id. Deterministic, so
/// that equal texts share prefixes, and about as long as what a real tokenizer gives for English.
enum PseudoTokenizer {
    static let bytesPerToken = 4

    static func tokens(of text: String) -> [UInt32] {
        var tokens: [UInt32] = []
        tokens.reserveCapacity(text.utf8.count / bytesPerToken + 1)
        var token: UInt32 = 0
        var filled = 0
        for byte in text.utf8 {
            token |= UInt32(byte) << (8 * UInt32(filled))
            filled += 1
            if filled == bytesPerToken {
                tokens.append(token)
                (token, filled) = (0, 0)
            }
        }
        if filled > 0 { tokens.append(token) }
        return tokens
    }

    /// One hash per full block, each chained on the one before, the first on the cache salt.
    static func blockHashes(of tokens: [UInt32], blockSize: Int, salt: String?) -> [UInt64] {
        var hash = (salt ?? "").utf8.reduce(0xCBF2_9CE4_8422_2325) { mix($0, UInt64($1)) }
        var hashes: [UInt64] = []
        hashes.reserveCapacity(tokens.count / blockSize)
        for (index, token) in tokens.enumerated() {
            hash = mix(hash, UInt64(token))
            if (index + 1) % blockSize == 0 { hashes.append(hash) }
        }
        return hashes
    }

    /// The finaliser of SplitMix64 over the chain so far and the next value.
    private static func mix(_ state: UInt64, _ value: UInt64) -> UInt64 {
        var z = (state ^ value) &+ 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
