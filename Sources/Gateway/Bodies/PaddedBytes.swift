// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CSimdjson
internal import Glibc

/// The bytes of one body, gathered once, with the room behind them that simdjson reads beyond the end.
@safe struct PaddedBytes: ~Copyable {
    /// Bytes behind the last one that a vector load may touch.
    static let padding = epp_json_padding()
    private static let firstCapacity = 4096

    /// Where they lie. The parser changes some, and has put them back when it returns.
    private(set) var start: UnsafeMutableRawPointer?
    private(set) var capacity = 0
    private var announced = 0
    private(set) var count = 0

    init() { unsafe start = nil }

    deinit { unsafe free(start) }

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
        let grown = unsafe RawMemory.allocate(capacity + Self.padding)
        if let start = unsafe start {
            unsafe grown.copyMemory(from: start, byteCount: self.count)
            unsafe free(start)
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

    /// Hands the memory over to an object that others may keep, and is empty from then on.
    mutating func share() -> SharedBytes? {
        guard let start = unsafe start else { return nil }
        let shared = unsafe SharedBytes(start: start, count: count)
        unsafe self.start = nil
        drop()
        return shared
    }

    /// Gives the memory back.
    mutating func drop() {
        unsafe free(start)
        unsafe start = nil
        capacity = 0
        announced = 0
        count = 0
    }
}

/// The bytes of a body that is complete, alive for as long as somebody sends them.
@safe final class SharedBytes {
    private let start: UnsafeMutableRawPointer
    private let count: Int

    /// Takes over memory of `RawMemory`.
    init(start: UnsafeMutableRawPointer, count: Int) {
        unsafe self.start = start
        self.count = count
    }

    deinit { unsafe free(start) }

    var bytes: UnsafeRawBufferPointer { unsafe UnsafeRawBufferPointer(start: start, count: count) }
}
