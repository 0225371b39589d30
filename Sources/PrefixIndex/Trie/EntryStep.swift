// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

/// What entering the names of one step in the table of engine hashes keeps from chunk to chunk.
@safe struct EntryStep: ~Copyable {
    // Safe: the kernel leaves room for all that one name can add.
    /// Blocks that stand under the key of one of the step's: where the chunk's bits agree too, it is a twin.
    let suspects: UnsafeMutablePointer<ix_suspect>
    var suspected: UInt32 = 0
    /// Names whose place in the table is near already.
    var fetched: UInt32 = 0

    /// More than one name can meet, which is all of a partition, and than 512 names meet by chance in a full table.
    static let maxSuspects = 2_048

    init() {
        unsafe suspects = .allocate(capacity: Self.maxSuspects + 1)
    }

    deinit { unsafe suspects.deallocate() }

    /// One name can meet all entries of a partition.
    var isFull: Bool {
        Int(suspected) &+ LineTableMemory.maxPagesPerPartition &* LineTableMemory.linesPerPage
            &* LineTableMemory.entriesPerLine > Self.maxSuspects
    }
}
