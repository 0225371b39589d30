// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// How vLLM hashes a block: H(encoding of (parent's digest, token ids, extra keys)), where H is SHA-256 and a prompt's first
/// parent is H(encoding of a seed). vllm/v1/core/kv_cache_utils.py and vllm/utils/hashing.py.
///
/// The index does not depend on it. It serves to check that events say what they seem to say: where the hashes can be
/// recomputed, tokens, block boundaries and salts were read as the engine meant them.
package enum EngineBlockHash {
    package enum Algorithm: String, Sendable, Hashable, CaseIterable {
        /// Python's pickle, protocol 5: vLLM's default.
        case sha256
        /// Canonical CBOR (RFC 8949, 4.2).
        case sha256CBOR = "sha256_cbor"
    }

    /// The seed where PYTHONHASHSEED is not set.
    package static let defaultSeed = "vllm-none-hash"

    /// The digest that stands for "no parent".
    package static func root(_ algorithm: Algorithm, seed: String = defaultSeed) -> [UInt8] {
        switch algorithm {
        case .sha256: SHA256.digest(pickled { $0 += shortUnicode(seed) })
        case .sha256CBOR: SHA256.digest(text(seed))
        }
    }

    /// The digest of one block. `cacheSalt` only for a prompt's first.
    package static func block(
        _ algorithm: Algorithm,
        parent: [UInt8],
        tokens: some Collection<UInt32>,
        cacheSalt: String? = nil
    ) -> [UInt8] {
        switch algorithm {
        case .sha256: SHA256.digest(pickledBlock(parent, tokens, cacheSalt))
        case .sha256CBOR: SHA256.digest(encodedBlock(parent, tokens, cacheSalt))
        }
    }

    /// The integer by which events name a digest: its last eight bytes.
    package static func event(_ digest: [UInt8]) -> UInt64 {
        digest.suffix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// The algorithm that gives these hashes for a prompt's first blocks; nil where none does.
    package static func recognize(
        hashes: some Collection<UInt64>,
        tokens: some Collection<UInt32>,
        blockSize: Int,
        cacheSalt: String? = nil,
        seed: String = defaultSeed
    ) -> Algorithm? {
        guard let first = hashes.first, blockSize > 0, tokens.count >= blockSize else { return nil }
        return Algorithm.allCases.first { algorithm in
            let digest = block(
                algorithm,
                parent: root(algorithm, seed: seed),
                tokens: tokens.prefix(blockSize),
                cacheSalt: cacheSalt
            )
            return event(digest) == first
        }
    }

    // MARK: - Canonical CBOR

    private static func head(_ major: UInt8, _ value: UInt64) -> [UInt8] {
        let type = major << 5
        switch value {
        case 0..<24: return [type | UInt8(value)]
        case 24...0xFF: return [type | 24, UInt8(value)]
        case 0x100...0xFFFF: return [type | 25] + bytes(value, 2)
        case 0x1_0000...0xFFFF_FFFF: return [type | 26] + bytes(value, 4)
        default: return [type | 27] + bytes(value, 8)
        }
    }

    private static func bytes(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (count - 1 - $0))) }
    }

    private static func text(_ text: String) -> [UInt8] { head(3, UInt64(text.utf8.count)) + Array(text.utf8) }

    private static func encodedBlock(_ parent: [UInt8], _ tokens: some Collection<UInt32>, _ salt: String?) -> [UInt8] {
        var message = head(4, 3) + head(2, UInt64(parent.count)) + parent
        message += head(4, UInt64(tokens.count))
        for token in tokens { message += head(0, UInt64(token)) }
        guard let salt else { return message + [0xF6] }
        return message + head(4, 1) + head(4, 2) + text("cache_salt") + text(salt)
    }

    // MARK: - Pickle, protocol 5

    private static let memoize: UInt8 = 0x94

    private static func pickled(_ body: (inout [UInt8]) -> Void) -> [UInt8] {
        var frame: [UInt8] = []
        body(&frame)
        frame.append(UInt8(ascii: "."))
        let length = (0..<8).map { UInt8(truncatingIfNeeded: frame.count >> (8 * $0)) }
        return [0x80, 5, 0x95] + length + frame
    }

    private static func shortUnicode(_ text: String) -> [UInt8] {
        [0x8C, UInt8(truncatingIfNeeded: text.utf8.count)] + Array(text.utf8) + [memoize]
    }

    private static func pickledBlock(_ parent: [UInt8], _ tokens: some Collection<UInt32>, _ salt: String?) -> [UInt8] {
        pickled { out in
            out += [UInt8(ascii: "C"), UInt8(truncatingIfNeeded: parent.count)] + parent + [memoize]
            if tokens.count > 3 { out.append(UInt8(ascii: "(")) }
            for token in tokens { out += pickledInteger(token) }
            switch tokens.count {
            case 0: out.append(UInt8(ascii: ")"))
            case 1: out += [0x85, memoize]
            case 2: out += [0x86, memoize]
            case 3: out += [0x87, memoize]
            default: out += [UInt8(ascii: "t"), memoize]
            }
            if let salt {
                out += shortUnicode("cache_salt") + shortUnicode(salt) + [0x86, memoize, 0x85, memoize]
            } else {
                out.append(UInt8(ascii: "N"))
            }
            out += [0x87, memoize]
        }
    }

    private static func pickledInteger(_ value: UInt32) -> [UInt8] {
        switch value {
        case 0...0xFF: [UInt8(ascii: "K"), UInt8(value)]
        case 0x100...0xFFFF: [UInt8(ascii: "M"), UInt8(value & 0xFF), UInt8(value >> 8)]
        case 0x1_0000...0x7FFF_FFFF:
            [UInt8(ascii: "J")] + (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
        // LONG1: the least bytes with a clear sign bit.
        default: [0x8A, 5] + (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } + [0]
        }
    }
}
