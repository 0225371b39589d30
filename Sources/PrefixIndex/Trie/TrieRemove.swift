// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

extension TrieWriter {
    /// Brings nearer what looking up an engine hash will touch.
    @inline(__always)
    func prefetch(_ ident: UInt32) { engine.prefetch(ident &>> 8) }

    /// The slot of a block that one of the lanes `first ... last` holds. Of several candidates, equal in all 32 bits, that
    /// at the end of what the lanes hold is taken: engines remove from the tail.
    @inline(__always)
    func locate(_ ident: UInt32, lanes first: UInt16, through last: UInt16) -> UInt32? {
        var found: UInt32?
        let exact = engine.memory.first(ident &>> 8) { slot in
            let chunk = memory.chunk(of: slot)
            let position = TrieMemory.position(of: slot, in: chunk)
            guard chunk.engineFingerprints.word8(position) == UInt8(truncatingIfNeeded: ident) else { return false }
            let held = heldMask(chunk, lanes: first, through: last)
            guard held & (1 &<< UInt32(position)) != 0 else { return false }
            found = slot
            return 31 &- held.leadingZeroBitCount == position
        }
        return exact ?? found
    }

    /// The slot of a block that anybody holds, for a lane that holds no block of this name itself.
    func locateAnywhere(_ ident: UInt32) -> UInt32? {
        engine.memory.first(ident &>> 8) { slot in
            let chunk = memory.chunk(of: slot)
            let position = TrieMemory.position(of: slot, in: chunk)
            return chunk.engineFingerprints.word8(position) == UInt8(truncatingIfNeeded: ident)
        }
    }

    /// Takes one copy of a block from a lane. False where the lane does not hold it.
    mutating func remove(_ lane: UInt16, _ ident: UInt32) -> Bool {
        guard let slot = locate(ident, lanes: lane, through: lane) else { return false }
        let chunk = memory.chunk(of: slot)
        if chunk.flags & Chunk.Flag.hasDuplicates != 0, duplicates.decrement(slot, lane) { return true }
        let position = TrieMemory.position(of: slot, in: chunk)
        let bit: UInt32 = 1 &<< UInt32(position)
        drop(chunk, lane, bit)
        guard chunk.holderCount == 0 || heldMask(chunk) & bit == 0 else { return true }
        liveBlocks &-= 1
        _ = engine.remove(ident &>> 8, slot: slot)
        chunk.insertFlags(Chunk.Flag.hasDead)
        tidy(chunk)
        return true
    }

    /// Lets a lane hold a block that stands in the trie, as engines say when a block moves to another tier.
    mutating func hold(_ lane: UInt16, slot: UInt32, ident: UInt32, counted: Bool) -> StoreOutcome {
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
