// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import Gateway

@Suite("Bytes that wait to be sent")
struct SendQueueTests {
    @Test("Copied and attached bytes leave in the order in which they came, in any pieces", arguments: [true, false])
    func order(copying: Bool) {
        var random = SplitMix64(seed: 3)
        for _ in 0..<200 {
            var queue = SendQueue()
            var output = SendQueue()
            var expected: [UInt8] = []
            var sent: [UInt8] = []
            var moved = 0
            for _ in 0..<40 {
                // Of both sides of `leastAttachedBytes`.
                let largest = random.next() % 4 == 0 ? 3 * SendQueue.leastAttachedBytes : 300
                let bytes = randomBytes(Int(random.next() % UInt64(largest)), &random)
                switch random.next() % 5 {
                case 0:
                    let room = unsafe queue.append(bytes.count)
                    unsafe room.copyBytes(from: bytes)
                    expected += bytes
                case 1:
                    attach(bytes, to: &queue)
                    expected += bytes
                case 2:
                    let count = Int(random.next() % UInt64(output.count + 1))
                    sent += Self.lent(output).prefix(count)
                    output.removeFirst(count)
                default:
                    let count = Int(random.next() % UInt64(queue.count + 1))
                    queue.move(count, to: &output, copying: copying)
                    moved += count
                }
                #expect(queue.count == expected.count - moved)
                #expect(output.count == moved - sent.count)
                let isContiguous = output.isContiguous
                #expect(isContiguous || !copying)
            }
            queue.move(queue.count, to: &output, copying: copying)
            #expect(queue.count == 0)
            if output.isContiguous { unsafe #expect(Array(output.bytes) == Self.lent(output)) }
            sent += Self.lent(output)
            #expect(sent == expected)
            output.removeFirst(output.count)
            let isContiguous = output.isContiguous
            #expect(output.count == 0 && isContiguous)
        }
    }

    @Test("Of many pieces as many are lent as there is room for, from the first on")
    func fewPieces() {
        var queue = SendQueue()
        for byte in UInt8(0)..<5 {
            unsafe queue.append(1).copyBytes(from: [byte])
            attach([byte, byte], to: &queue)
        }
        #expect(Self.lent(queue, room: 3) == [0, 0, 0, 1])
        #expect(Self.lent(queue).count == 15)
    }

    @Test("What is attached lives until it was moved, or the queue was emptied")
    func ownership() {
        var queue = SendQueue()
        var output = SendQueue()
        weak let first = attach([1, 2, 3], to: &queue)
        weak let second = attach([4, 5], to: &queue)
        queue.move(2, to: &output, copying: true)
        #expect(first != nil)
        queue.move(1, to: &output, copying: true)
        #expect(first == nil && second != nil)
        queue.removeAll()
        #expect(second == nil && queue.count == 0)
    }

    @Test("What moves on without a copy lives until it was sent")
    func ownershipOfOutput() {
        var queue = SendQueue()
        var output = SendQueue()
        weak let body = attach([UInt8](repeating: 1, count: 2 * SendQueue.leastAttachedBytes), to: &queue)
        queue.move(queue.count, to: &output, copying: false)
        #expect(queue.count == 0 && body != nil)
        output.removeFirst(output.count - 1)
        #expect(body != nil)
        output.removeFirst(1)
        #expect(body == nil)
    }

    private static func lent(_ queue: borrowing SendQueue, room: Int = 100) -> [UInt8] {
        unsafe withUnsafeTemporaryAllocation(of: UnsafeRawBufferPointer.self, capacity: room) { pieces in
            let count = unsafe queue.lend(pieces)
            return unsafe pieces[..<count].flatMap { unsafe Array($0) }
        }
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
