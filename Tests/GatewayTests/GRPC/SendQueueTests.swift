// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import Gateway

@Suite("Bytes that wait to be sent")
struct SendQueueTests {
    @Test("Copied and attached bytes leave in the order in which they came, in any pieces")
    func order() {
        var random = SplitMix64(seed: 3)
        for _ in 0..<200 {
            var queue = SendQueue()
            var output = ByteQueue()
            var expected: [UInt8] = []
            var moved = 0
            for _ in 0..<40 {
                let bytes = randomBytes(Int(random.next() % 300), &random)
                switch random.next() % 3 {
                case 0:
                    let room = unsafe queue.append(bytes.count)
                    unsafe room.copyBytes(from: bytes)
                    expected += bytes
                case 1:
                    attach(bytes, to: &queue)
                    expected += bytes
                default:
                    let count = Int(random.next() % UInt64(queue.count + 1))
                    queue.move(count, to: &output)
                    moved += count
                }
                #expect(queue.count == expected.count - moved)
            }
            queue.move(queue.count, to: &output)
            #expect(queue.count == 0)
            unsafe #expect(Array(output.bytes) == expected)
        }
    }

    @Test("What is attached lives until it was moved, or the queue was emptied")
    func ownership() {
        var queue = SendQueue()
        var output = ByteQueue()
        weak let first = attach([1, 2, 3], to: &queue)
        weak let second = attach([4, 5], to: &queue)
        queue.move(2, to: &output)
        #expect(first != nil)
        queue.move(1, to: &output)
        #expect(first == nil && second != nil)
        queue.removeAll()
        #expect(second == nil && queue.count == 0)
    }

    @discardableResult
    private func attach(_ bytes: [UInt8], to queue: inout SendQueue) -> SharedBytes {
        var body = PaddedBytes()
        unsafe bytes.withUnsafeBytes { unsafe body.append($0) }
        let shared = unsafe body.share() ?? SharedBytes(start: RawMemory.allocate(1), count: 0)
        #expect(body.count == 0)
        unsafe queue.attach(shared.bytes, of: shared)
        return shared
    }
}
