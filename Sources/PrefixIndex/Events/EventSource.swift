// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Names one publisher of KV events: a pod's data-parallel rank, or a shared store that belongs to no pod.
package struct EventSourceID: Sendable, Hashable, Comparable {
    /// The owner's name for the pod or store.
    package var holder: UInt32
    package var rank: Int

    package init(holder: UInt32, rank: Int) {
        self.holder = holder
        self.rank = rank
    }

    package static func < (a: EventSourceID, b: EventSourceID) -> Bool {
        a.holder != b.holder ? a.holder < b.holder : a.rank < b.rank
    }
}

/// What became of a batch's events.
package struct EventOutcome: Sendable, Hashable {
    /// Blocks that events named as stored: new ones, further copies, and those that stood there by another holder.
    package var storedBlocks = 0
    package var repeatedBlocks = 0
    package var removedBlocks = 0
    package var clears = 0
    /// Stores whose parent is not known, and removals of blocks that are not: from before the subscription, or evicted here.
    package var orphans = 0
    package var unknownRemovals = 0
    /// Blocks of equal text under another engine hash.
    package var foreignBlocks = 0
    /// Blocks left out for want of room.
    package var refusedBlocks = 0
    /// Events of cache groups that do not keep the whole prompt, or of types not known.
    package var skippedEvents = 0
    /// Events that contradict themselves, or whose block size is no multiple of the unit.
    package var unusableEvents = 0
    /// Prompts whose engine hash was recomputed from the tokens: equal, and no longer equal.
    package var recognizedHashes = 0
    package var differentHashes = 0
    /// The batch could not be read to its end.
    package var isMalformed = false
    /// The publisher belongs to another hash domain: what it held is forgotten, and it should send again from the start.
    package var hasMoved = false

    package init() {}

    package static func += (a: inout EventOutcome, b: EventOutcome) {
        a.storedBlocks &+= b.storedBlocks
        a.repeatedBlocks &+= b.repeatedBlocks
        a.removedBlocks &+= b.removedBlocks
        a.clears &+= b.clears
        a.orphans &+= b.orphans
        a.unknownRemovals &+= b.unknownRemovals
        a.foreignBlocks &+= b.foreignBlocks
        a.refusedBlocks &+= b.refusedBlocks
        a.skippedEvents &+= b.skippedEvents
        a.unusableEvents &+= b.unusableEvents
        a.recognizedHashes &+= b.recognizedHashes
        a.differentHashes &+= b.differentHashes
        a.isMalformed = a.isMalformed || b.isMalformed
        a.hasMoved = a.hasMoved || b.hasMoved
    }
}

/// The writer's knowledge of one publisher.
struct EventSource {
    struct Group {
        /// First of the group's lanes in its domain's trie; nil until something is stored.
        var lane: UInt16?
        var attention = KVEvent.AttentionKind.full
        var blockSize = 0
    }

    let id: EventSourceID
    var domain = 0
    /// By the engine's group number; few. Sorted by number.
    var groups: [(number: Int, group: Group)] = []
    /// Blocks found in the trie with text and engine hash equal: proof of the domain.
    var sharedBlocks = 0
    /// Domains that were tried and are another engine's.
    var foreignDomains: [Int] = []
    var check = HashCheck()
    /// Since when something may be wrong, in the owner's seconds.
    var doubtfulSince: Double?

    /// More groups than any hybrid model has.
    static let maxGroups = 16

    /// Where a group stands in `groups`, entered where it is new. nil where there are too many.
    mutating func place(ofGroup number: Int) -> Int? {
        if let place = groups.firstIndex(where: { $0.number == number }) { return place }
        guard groups.count < Self.maxGroups else { return nil }
        let place = groups.firstIndex { $0.number > number } ?? groups.count
        groups.insert((number, Group()), at: place)
        return place
    }

    /// Groups whose hits make a prefix hit.
    var indexedGroups: Int { groups.count { $0.group.lane != nil } }
}
