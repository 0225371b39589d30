// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

@testable import PrefixIndex

/// A snapshot changed as a fuzzer's bytes say, under a checksum that fits: it is refused, or it can be used.
///
/// Run it with `scripts/fuzz FuzzSnapshot`.
@unsafe @_cdecl("LLVMFuzzerTestOneInput")
public func fuzzSnapshot(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = unsafe [UInt8](UnsafeBufferPointer(start: start, count: count))
    FuzzedSnapshot.shared.play(input)
    return 0
}

private final class FuzzedSnapshot: Sendable {
    static let shared = FuzzedSnapshot()

    private let body: [UInt8]
    private let prompt: [UInt32] = (0..<400).map { UInt32($0) &* 7_919 }

    private init() {
        guard let index = try? EventPrefixIndex(budget: 4 << 20) else { preconditionFailure("no memory for the index") }
        for holder in 0..<3 as Range<UInt32> {
            for cut in [400, 160 + 16 * Int(holder)] {
                _ = index.apply(Self.batch(prompt, cut), from: EventSourceID(holder: holder, rank: 0))
            }
        }
        body = Array(index.snapshot()[SnapshotFormat.headerBytes...])
    }

    private static func batch(_ prompt: [UInt32], _ cut: Int) -> [UInt8] {
        // Blocks behind the cut are others: branches, copies and several holders.
        var tokens = prompt
        for at in cut..<tokens.count { tokens[at] &+= UInt32(cut) }
        let hashes = (0..<(tokens.count / 16)).map { UInt64($0 * 16 < cut ? $0 : $0 * 1_000 + cut) + 1 }
        var encoder = KVEventEncoder()
        encoder.stored(hashes, parent: nil, tokens: tokens, blockSize: 16)
        encoder.removed([hashes[7]])
        return encoder.batch(time: 0)
    }

    func play(_ input: [UInt8]) {
        var changed = body
        // Three bytes each: where, from the front or from the back, and what.
        for at in stride(from: 0, to: input.count - input.count % 3, by: 3) {
            let place = (Int(input[at]) << 8 | Int(input[at + 1])) % changed.count
            changed[place] = input[at + 2]
        }
        if input.count % 5 == 4 { changed.removeLast(min(changed.count - 1, input.count)) }
        let file = SnapshotFormat.framed(changed, magic: SnapshotFormat.snapshotMagic)
        guard let index = try? EventPrefixIndex(snapshot: file, budget: 4 << 20) else { return }
        var found: [TierMatch] = []
        var hasher = TokenKeyHasher(model: nil, cacheSalt: nil)
        hasher.update(prompt)
        index.matches(of: hasher.finish(), into: &found)
        for holder in 0..<3 as Range<UInt32> {
            _ = index.apply(Self.batch(prompt, 240), from: EventSourceID(holder: holder, rank: 0))
        }
        _ = index.snapshot()
        for holder in 0..<3 as Range<UInt32> { index.remove(holder: holder) }
        while index.maintain(now: 0) {}
    }
}
