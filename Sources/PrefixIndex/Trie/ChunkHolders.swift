// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Which positions of chunks are held, by which lanes, and where a held block is.
///
/// Part of the memory rather than of the writer: a method of a non-copyable struct that only reads it is handed a copy of its
/// 1,152 bytes (Swift 6.3), which was a tenth of the Router's processor time.
extension TrieMemory {
    /// The list of holder words that starts at this word of the arena.
    @inline(__always)
    func holderList(at index: UInt64) -> SharedPointer { HolderArena.list(index, in: holders) }

    /// The holder words of a chunk that has any.
    @inline(__always)
    func holderList(_ chunk: Chunk, _ count: Int) -> SharedPointer {
        count == 1 ? chunk.base + Chunk.Offset.holder : holderList(at: chunk.holderWord)
    }

    /// The positions that anybody holds.
    @inline(__always)
    func heldMask(_ chunk: Chunk) -> UInt32 {
        let count = chunk.holderCount
        if count < 2 { return count == 0 ? 0 : HolderWord(raw: chunk.holderWord).mask }
        let list = holderList(at: chunk.holderWord)
        var mask: UInt32 = 0
        for at in 0..<count { mask |= HolderWord(raw: list.word64(8 &* at)).mask }
        return mask
    }

    /// Somebody holds the block. The first of many holders is mostly enough to know.
    @inline(__always)
    func isHeld(_ slot: UInt32) -> Bool {
        let chunk = self.chunk(of: slot)
        let bit: UInt32 = 1 &<< UInt32(Self.position(of: slot, in: chunk))
        let count = chunk.holderCount
        guard count > 0 else { return false }
        let list = holderList(chunk, count)
        for at in 0..<count where HolderWord(raw: list.word64(8 &* at)).mask & bit != 0 { return true }
        return false
    }

    /// The positions held by lanes `first ... last`.
    @inline(__always)
    func heldMask(_ chunk: Chunk, lanes first: UInt16, through last: UInt16) -> UInt32 {
        let count = chunk.holderCount
        if count == 0 { return 0 }
        if count == 1 {
            let word = HolderWord(raw: chunk.holderWord)
            return word.lane >= first && word.lane <= last ? word.mask : 0
        }
        let list = holderList(at: chunk.holderWord)
        var mask: UInt32 = 0
        var at = Self.lowerBound(list, count, first)
        while at < count {
            let word = HolderWord(raw: list.word64(8 &* at))
            if word.lane > last { break }
            mask |= word.mask
            at &+= 1
        }
        return mask
    }

    /// First place in a list, sorted by lane, whose lane is not below `lane`.
    @inline(__always)
    static func lowerBound(_ list: SharedPointer, _ count: Int, _ lane: UInt16) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low &+ high) &>> 1
            if HolderWord(raw: list.word64(8 &* middle)).lane < lane { low = middle &+ 1 } else { high = middle }
        }
        return low
    }

    /// The slot of a block that one of the lanes `first ... last` holds.
    @inline(__always)
    func locate(_ name: BlockName, lanes first: UInt16, through last: UInt16, _ twins: borrowing TwinTable) -> UInt32? {
        if twins.mayHave(name) { return locateTwin(name, lanes: first, through: last, twins) }
        return engine.first(name.key) { isHeld($0, name, lanes: first, through: last) }
    }

    @inline(__always)
    private func isHeld(_ slot: UInt32, _ name: BlockName, lanes first: UInt16, through last: UInt16) -> Bool {
        let chunk = self.chunk(of: slot)
        let position = Self.position(of: slot, in: chunk)
        return chunk.engineFingerprints.word8(position) == name.fingerprint
            && heldMask(chunk, lanes: first, through: last) & (1 &<< UInt32(position)) != 0
    }

    /// Among twins: the one that is written down under the whole name, or else the one that is not written down.
    private func locateTwin(
        _ name: BlockName,
        lanes first: UInt16,
        through last: UInt16,
        _ twins: borrowing TwinTable
    ) -> UInt32? {
        var unnamed: UInt32?
        let named = engine.first(name.key) { slot in
            guard isHeld(slot, name, lanes: first, through: last) else { return false }
            guard let rest = twins.rest(slot) else {
                unnamed = slot
                return false
            }
            return rest == name.rest
        }
        return named ?? unnamed
    }

    /// Makes young what the lane holds from `place` up to the root.
    func refresh(_ lane: UInt16, behind place: TriePlace) {
        let age = lanes.age(lane)
        var chunk = place.chunk
        while let current = chunk {
            let count = current.holderCount
            let list = count > 0 ? holderList(current, count) : current.base
            for at in 0..<count {
                let word = HolderWord(raw: list.word64(8 &* at))
                guard word.lane == lane else { continue }
                list.set64(8 &* at, HolderWord(mask: word.mask, lane: lane, age: age).raw)
            }
            chunk = current.parent == 0 ? nil : self.chunk(of: current.parent)
        }
    }
}
