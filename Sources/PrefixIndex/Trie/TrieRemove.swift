// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

extension TrieWriter {
    /// Brings nearer what looking up a name will touch.
    @inline(__always)
    func prefetch(_ name: BlockName) { engine.prefetch(name.key) }

    /// Takes one copy of a block from a lane. False where the lane does not hold it.
    mutating func remove(_ lane: UInt16, _ name: BlockName) -> Bool {
        guard let slot = memory.locate(name, lanes: lane, through: lane, twins) else { return false }
        let chunk = memory.chunk(of: slot)
        if chunk.flags & Chunk.Flag.hasDuplicates != 0, duplicates.decrement(slot, lane) { return true }
        let position = TrieMemory.position(of: slot, in: chunk)
        let bit: UInt32 = 1 &<< UInt32(position)
        drop(chunk, lane, bit)
        guard chunk.holderCount == 0 || memory.heldMask(chunk) & bit == 0 else { return true }
        liveBlocks &-= 1
        forgetTwins(chunk, bit)
        _ = engine.remove(name.key, slot: slot)
        chunk.insertFlags(Chunk.Flag.hasDead)
        tidy(chunk)
        return true
    }

    /// Lets a lane hold a block that stands in the trie, as engines say when a block moves to another tier.
    mutating func hold(_ lane: UInt16, slot: UInt32, counted: Bool) -> StoreOutcome {
        var outcome = StoreOutcome()
        let chunk = memory.chunk(of: slot)
        let bit: UInt32 = 1 &<< UInt32(TrieMemory.position(of: slot, in: chunk))
        guard let before = hold(chunk, lane, bit, isLocked: false) else {
            outcome.refused = 1
            return outcome
        }
        let repeated = before != 0
        memory.touch(chunk)
        if repeated {
            outcome.repeated = 1
            if counted, duplicates.bytes < budget / 16 {
                chunk.insertFlags(Chunk.Flag.hasDuplicates)
                duplicates.increment(slot, lane)
            }
        } else {
            outcome.added = 1
        }
        return outcome
    }
}
