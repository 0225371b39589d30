// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Which pods have which blocks: one look-up per block answers for all pods.
///
/// Most blocks lie on a pod or two, the heads of prompts that many share on all of them. So a block names up to four pods
/// beside its hash, and has a set of bits when it is on more. Open addressing with linear probing, as in `BlockCache`.
struct BlockHolders: Sendable {
    private struct Entry: Sendable {
        var hash: UInt64
        /// Pods, `nobody` where there is none; void where `wide` is not negative.
        var few: SIMD4<UInt16>
        /// Index of the block's set of bits, −1 for none.
        var wide: Int32
        var isUsed: Bool
    }

    private static let nobody = UInt16.max
    private static let unused = Entry(hash: 0, few: SIMD4(repeating: nobody), wide: -1, isUsed: false)

    private var table: [Entry]
    private var shift: UInt64
    private(set) var count = 0
    /// Sets of bits, `words` each.
    private var bits: [UInt64] = []
    private var freeSets: [Int32] = []
    /// 64 pods each.
    let words: Int

    /// - Parameter pods: below 65,535.
    init(pods: Int) {
        words = max((pods + 63) / 64, 1)
        table = Array(repeating: Self.unused, count: 64)
        shift = 64 - 6
    }

    var isEmpty: Bool { count == 0 }

    private func home(_ hash: UInt64) -> Int { Int(truncatingIfNeeded: (hash &* 0x9E37_79B9_7F4A_7C15) >> shift) }

    /// The block's place, or the free one where it belongs.
    private func place(of hash: UInt64) -> Int {
        let mask = table.count - 1
        var place = home(hash)
        while table[place].isUsed, table[place].hash != hash { place = (place + 1) & mask }
        return place
    }

    /// Adds the bits of all pods that have the block to `set`, which is `words` long.
    func add(_ hash: UInt64, to set: inout [UInt64]) {
        guard count > 0 else { return }
        let entry = table[place(of: hash)]
        guard entry.isUsed else { return }
        if entry.wide >= 0 {
            let begin = Int(entry.wide) * words
            for word in 0..<words { set[word] |= bits[begin + word] }
        } else {
            for lane in 0..<4 where entry.few[lane] != Self.nobody {
                set[Int(entry.few[lane] >> 6)] |= 1 << UInt64(entry.few[lane] & 63)
            }
        }
    }

    /// The pod has the block from now on.
    mutating func insert(_ hash: UInt64, pod: Int) {
        if count * 2 >= table.count { grow() }
        let place = place(of: hash)
        if !table[place].isUsed {
            table[place] = Self.unused
            table[place].hash = hash
            table[place].isUsed = true
            count += 1
        }
        if table[place].wide < 0 {
            let name = UInt16(truncatingIfNeeded: pod)
            for lane in 0..<4 where table[place].few[lane] == name { return }
            for lane in 0..<4 where table[place].few[lane] == Self.nobody {
                table[place].few[lane] = name
                return
            }
            widen(place)
        }
        bits[Int(table[place].wide) * words + pod >> 6] |= 1 << UInt64(pod & 63)
    }

    /// The pod has the block no more.
    mutating func remove(_ hash: UInt64, pod: Int) {
        guard count > 0 else { return }
        let place = place(of: hash)
        guard table[place].isUsed, take(pod, from: place) else { return }
        erase(place)
    }

    /// The pod has nothing any more. Looks at every block.
    mutating func removeAll(pod: Int) {
        let hashes = table.filter(\.isUsed).map(\.hash)
        for hash in hashes { remove(hash, pod: pod) }
    }

    /// - Returns: true when no pod has the entry's block any more.
    private mutating func take(_ pod: Int, from place: Int) -> Bool {
        let wide = table[place].wide
        guard wide >= 0 else {
            for lane in 0..<4 where table[place].few[lane] == UInt16(truncatingIfNeeded: pod) {
                table[place].few[lane] = Self.nobody
            }
            return table[place].few == SIMD4(repeating: Self.nobody)
        }
        let begin = Int(wide) * words
        bits[begin + pod >> 6] &= ~(1 << UInt64(pod & 63))
        guard bits[begin..<begin + words].allSatisfy({ $0 == 0 }) else { return false }
        freeSets.append(wide)
        return true
    }

    private mutating func widen(_ place: Int) {
        let set: Int32
        if let free = freeSets.popLast() {
            set = free
        } else {
            set = Int32(truncatingIfNeeded: bits.count / words)
            bits.append(contentsOf: repeatElement(0, count: words))
        }
        let few = table[place].few
        table[place].wide = set
        for lane in 0..<4 where few[lane] != Self.nobody {
            bits[Int(set) * words + Int(few[lane] >> 6)] |= 1 << UInt64(few[lane] & 63)
        }
    }

    /// Deletes by shifting back (Knuth, volume 3, 6.4, algorithm R).
    private mutating func erase(_ place: Int) {
        let mask = table.count - 1
        var hole = place
        var probe = place
        while true {
            probe = (probe + 1) & mask
            guard table[probe].isUsed else { break }
            let wanted = home(table[probe].hash)
            if (probe - wanted) & mask >= (probe - hole) & mask {
                table[hole] = table[probe]
                hole = probe
            }
        }
        table[hole] = Self.unused
        count -= 1
    }

    private mutating func grow() {
        let old = table
        table = Array(repeating: Self.unused, count: old.count * 2)
        shift -= 1
        for entry in old where entry.isUsed { table[place(of: entry.hash)] = entry }
    }
}
