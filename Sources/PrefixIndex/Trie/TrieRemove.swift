// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

extension TrieWriter {
    /// Brings nearer what looking up a name will touch.
    @inline(__always)
    func prefetch(_ name: BlockName) { engine.prefetch(name.key) }

    /// The slot of a block that one of the lanes `first ... last` holds.
    @inline(__always)
    func locate(_ name: BlockName, lanes first: UInt16, through last: UInt16) -> UInt32? {
        if twins.mayHave(name) { return locateTwin(name, lanes: first, through: last) }
        return engine.memory.first(name.key) { isHeld($0, name, lanes: first, through: last) }
    }

    private func isHeld(_ slot: UInt32, _ name: BlockName, lanes first: UInt16, through last: UInt16) -> Bool {
        let chunk = memory.chunk(of: slot)
        let position = TrieMemory.position(of: slot, in: chunk)
        return chunk.engineFingerprints.word8(position) == name.fingerprint
            && heldMask(chunk, lanes: first, through: last) & (1 &<< UInt32(position)) != 0
    }

    /// Among twins: the one that is written down under the whole name, or else the one that is not written down.
    private func locateTwin(_ name: BlockName, lanes first: UInt16, through last: UInt16) -> UInt32? {
        var unnamed: UInt32?
        let named = engine.memory.first(name.key) { slot in
            guard isHeld(slot, name, lanes: first, through: last) else { return false }
            guard let rest = twins.rest(slot) else {
                unnamed = slot
                return false
            }
            return rest == name.rest
        }
        return named ?? unnamed
    }

    /// Takes one copy of a block from a lane. False where the lane does not hold it.
    mutating func remove(_ lane: UInt16, _ name: BlockName) -> Bool {
        guard let slot = locate(name, lanes: lane, through: lane) else { return false }
        let chunk = memory.chunk(of: slot)
        if chunk.flags & Chunk.Flag.hasDuplicates != 0, duplicates.decrement(slot, lane) { return true }
        let position = TrieMemory.position(of: slot, in: chunk)
        let bit: UInt32 = 1 &<< UInt32(position)
        drop(chunk, lane, bit)
        guard chunk.holderCount == 0 || heldMask(chunk) & bit == 0 else { return true }
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
