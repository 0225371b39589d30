// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CSimdjson

/// The bytes of one body, gathered once, with the room behind them that simdjson reads beyond the end.
@safe struct PaddedBytes: ~Copyable {
    /// Bytes behind the last one that a vector load may touch.
    static let padding = epp_json_padding()
    private static let firstCapacity = 4096

    private var start: UnsafeMutableRawPointer?
    private(set) var capacity = 0
    private var announced = 0
    private(set) var count = 0

    init() { unsafe start = nil }

    deinit { unsafe start?.deallocate() }

    /// Lent until the next change.
    var bytes: UnsafeRawBufferPointer { unsafe UnsafeRawBufferPointer(start: start, count: count) }

    /// Bytes that are to come in all, as somebody claims.
    mutating func announce(_ count: Int) { announced = count }

    /// The capacity after `reserve(count)`. A claim is believed as far as an eighth of it has come: nobody gets the room of
    /// a large body for one byte.
    func capacity(for count: Int) -> Int {
        guard count > capacity else { return capacity }
        return max(count, min(announced, 8 &* count), 2 &* capacity, Self.firstCapacity)
    }

    /// Makes room for `count` bytes in all.
    mutating func reserve(_ count: Int) {
        guard count > capacity else { return }
        let capacity = capacity(for: count)
        // From an alignment of 16 on, Swift asks posix_memalign, which takes longer for what malloc gives too.
        let grown = UnsafeMutableRawPointer.allocate(byteCount: capacity + Self.padding, alignment: 8)
        if let start = unsafe start {
            unsafe grown.copyMemory(from: start, byteCount: self.count)
            unsafe start.deallocate()
        }
        unsafe start = grown
        self.capacity = capacity
    }

    mutating func append(_ chunk: UnsafeRawBufferPointer) {
        guard let source = chunk.baseAddress, unsafe !chunk.isEmpty else { return }
        reserve(count + chunk.count)
        guard let start = unsafe start else { return }
        unsafe (start + count).copyMemory(from: source, byteCount: chunk.count)
        count += chunk.count
    }

    /// Zeroes what lies behind the last byte, so that what a parser reads there does not depend on the past.
    mutating func pad() {
        // There is room behind the capacity: a body that fills it is not moved.
        reserve(max(count, 1))
        guard let start = unsafe start else { return }
        unsafe (start + count).initializeMemory(as: UInt8.self, repeating: 0, count: Self.padding)
    }

    /// Gives the memory back.
    mutating func drop() {
        unsafe start?.deallocate()
        unsafe start = nil
        capacity = 0
        announced = 0
        count = 0
    }
}
