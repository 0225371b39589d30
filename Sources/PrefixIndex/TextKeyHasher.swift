// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Cuts a prompt's unescaped text into chunks of equal size and hashes each, as the text arrives.
///
/// The keys depend on the bytes and the boundaries alone, never on how the text was cut into calls of `update`. Text is a
/// stand-in for tokens: equal prefixes give equal keys, and the number of tokens behind a chunk is an estimate.
package struct TextKeyHasher: Sendable {
    /// 64 tokens at 4 bytes each: long enough that a 100k-token prompt has 1,600 keys, short enough that a shared system
    /// prompt of a few hundred tokens is seen.
    package static let defaultBytesPerBlock = 256

    /// A boundary as bytes. 0xFF occurs in no UTF-8 text, so no message can imitate the end of another.
    private static let boundary: UInt8 = 0xFF

    private let bytesPerBlock: Int
    private let seed: UInt64
    private let maxBlocks: Int
    private var hashes: [UInt64] = []
    /// The chunk that is being filled.
    private var partial: [UInt8] = []
    /// Text bytes seen, boundaries not counted, those behind the last block kept included.
    package private(set) var byteCount = 0

    /// - Parameters:
    ///   - model: the name under which the pods serve the request.
    ///   - cacheSalt: the request's `cache_salt`; prompts with different salts share nothing.
    ///   - bytesPerBlock: size of a chunk; at least 16.
    ///   - maxBlocks: text behind so many chunks is counted, but not hashed.
    ///   - expectedBytes: of all text that is to come, at most: room for its keys is made at once.
    package init(
        model: String,
        cacheSalt: String?,
        bytesPerBlock: Int = defaultBytesPerBlock,
        maxBlocks: Int = PrefixKeys.maxBlocks,
        expectedBytes: Int = 0
    ) {
        self.bytesPerBlock = max(bytesPerBlock, 16)
        self.maxBlocks = min(max(maxBlocks, 0), PrefixKeys.mostBlocks)
        seed = BlockHash.joined(BlockHash.seed(model: model, cacheSalt: cacheSalt), UInt64(self.bytesPerBlock))
        partial.reserveCapacity(self.bytesPerBlock)
        hashes.reserveCapacity(min(max(expectedBytes, 0) / self.bytesPerBlock, self.maxBlocks))
    }

    /// The next bytes of the text.
    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        byteCount += bytes.count
        unsafe append(bytes)
    }

    /// The next part of the text.
    package mutating func update(_ text: String) {
        var copy = text
        copy.withUTF8 { unsafe update(UnsafeRawBufferPointer($0)) }
    }

    /// Ends a message, a role or another field: text on both sides of it is never taken for one.
    package mutating func separate() {
        unsafe withUnsafeBytes(of: Self.boundary) { unsafe append($0) }
    }

    /// Keys of the full chunks. A partial last chunk is dropped: it would match nothing that continues it.
    package func finish(tokensPerByte: Double = 0.25) -> PrefixKeys {
        PrefixKeys(kind: .text, tokensPerBlock: Double(bytesPerBlock) * tokensPerByte, hashes: hashes)
    }

    private mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let start = bytes.baseAddress, hashes.count < maxBlocks else { return }
        var offset = 0
        let count = bytes.count
        if !partial.isEmpty {
            offset = min(bytesPerBlock - partial.count, count)
            unsafe partial.append(contentsOf: UnsafeRawBufferPointer(start: start, count: offset))
            guard partial.count == bytesPerBlock else { return }
            unsafe partial.withUnsafeBytes { chunk in
                guard let start = chunk.baseAddress else { return }
                unsafe close(start, blocks: 1)
            }
            partial.removeAll(keepingCapacity: true)
        }
        let blocks = min((count - offset) / bytesPerBlock, maxBlocks - hashes.count)
        if blocks > 0 {
            unsafe close(start + offset, blocks: blocks)
            offset += blocks * bytesPerBlock
        }
        guard hashes.count < maxBlocks, offset < count else { return }
        unsafe partial.append(contentsOf: UnsafeRawBufferPointer(start: start + offset, count: count - offset))
    }

    private mutating func close(_ chunks: UnsafeRawPointer, blocks: Int) {
        let first = hashes.count
        hashes.append(contentsOf: repeatElement(0, count: blocks))
        unsafe hashes.withUnsafeMutableBufferPointer { hashes in
            guard let place = hashes.baseAddress else { return }
            unsafe BlockHash.bytes(chunks, size: bytesPerBlock, blocks: blocks, to: place + first)
        }
        if first == 0 { hashes[0] = BlockHash.seeded(hashes[0], by: seed) }
    }
}
