// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

@Suite("Sequence numbers of a publisher")
struct SequenceTrackerTests {
    private static func batch(_ number: UInt64) -> [UInt8] { [UInt8(truncatingIfNeeded: number)] }

    @Test("without replay a gap is noticed and the rest goes on")
    func gap() {
        var tracker = SequenceTracker(canReplay: false)
        #expect(tracker.live(0, [0]) == [.apply([0])])
        #expect(tracker.live(1, [1]) == [.apply([1])])
        #expect(tracker.live(5, [5]) == [.doubt(lost: 3), .apply([5])])
        #expect(tracker.live(6, [6]) == [.apply([6])])
        #expect(tracker.gaps == 1 && tracker.lostBatches == 3)
    }

    @Test("a late subscriber without replay goes on from where it came in")
    func late() {
        var tracker = SequenceTracker(canReplay: false)
        #expect(tracker.live(17, [1]) == [.apply([1])])
        #expect(tracker.state == .following(next: 18) && tracker.gaps == 0)
    }

    @Test("where something is known already, the next number follows on it")
    func resumed() {
        var tracker = SequenceTracker(canReplay: true, next: 8)
        #expect(tracker.next == 8)
        #expect(tracker.live(8, [8]) == [.apply([8])] && tracker.next == 9)
        var late = SequenceTracker(canReplay: true, next: 8)
        #expect(late.live(10, [10]) == [.replay(from: 8)])
        #expect(late.next == 8, "what waits has not been applied")
        #expect(late.replayed(8, [8]) == [.apply([8])] && late.next == 9)
        var alone = SequenceTracker(canReplay: false, next: 8)
        #expect(alone.live(10, [10]) == [.doubt(lost: 2), .apply([10])])
        var restarted = SequenceTracker(canReplay: false, next: 8)
        #expect(restarted.live(7, [7]) == [.restart, .apply([7])])
        #expect(SequenceTracker(canReplay: true).next == nil)
    }

    @Test("a number that goes back is a restart")
    func restart() {
        var tracker = SequenceTracker(canReplay: false)
        _ = tracker.live(8, [8])
        #expect(tracker.live(0, [0]) == [.restart, .apply([0])])
        #expect(tracker.live(0, [1]) == [.restart, .apply([1])])
        #expect(tracker.restarts == 2)
        #expect(tracker.restart() == [.restart])
        #expect(tracker.live(9, [9]) == [.apply([9])])
    }

    @Test("with replay a gap is filled, in order, and nothing is applied twice")
    func replay() {
        var tracker = SequenceTracker(canReplay: true)
        #expect(tracker.live(0, [0]) == [.apply([0])])
        #expect(tracker.live(3, [3]) == [.replay(from: 1)])
        #expect(tracker.live(4, [4]) == [])
        #expect(tracker.replayed(0, [0]) == [])
        #expect(tracker.replayed(1, [1]) == [.apply([1])])
        #expect(tracker.replayed(2, [2]) == [.apply([2])])
        #expect(tracker.replayed(3, [3]) == [.apply([3])])
        #expect(tracker.replayEnded() == [.apply([4])])
        #expect(tracker.live(5, [5]) == [.apply([5])])
        #expect(tracker.lostBatches == 0)
    }

    @Test("a replay that brought more than was live: live batches that it held are passed over")
    func replayAhead() {
        var tracker = SequenceTracker(canReplay: true)
        #expect(tracker.live(2, [2]) == [.replay(from: 0)])
        for number in 0...4 as ClosedRange<UInt64> {
            #expect(tracker.replayed(number, Self.batch(number)) == [.apply(Self.batch(number))])
        }
        #expect(tracker.replayEnded() == [])
        #expect(tracker.live(3, [3]) == [])
        #expect(tracker.live(4, [4]) == [])
        #expect(tracker.live(5, [5]) == [.apply([5])])
        #expect(tracker.restarts == 0)
    }

    @Test("a server that no longer has all: doubt")
    func incomplete() {
        var tracker = SequenceTracker(canReplay: true)
        _ = tracker.live(0, [0])
        #expect(tracker.live(9, [9]) == [.replay(from: 1)])
        #expect(tracker.replayed(5, [5]) == [.doubt(lost: 4), .apply([5])])
        #expect(tracker.replayEnded() == [.doubt(lost: 3), .apply([9])])
    }

    @Test("what waits for a replay is bounded")
    func overflow() {
        var tracker = SequenceTracker(canReplay: true)
        _ = tracker.live(0, [0])
        var actions: [SequenceTracker.Action] = []
        for number in 2...UInt64(SequenceTracker.maxWaiting + 3) { actions += tracker.live(number, []) }
        #expect(actions.first == .replay(from: 1))
        #expect(actions[1] == .doubt(lost: 1))
        #expect(actions.count == SequenceTracker.maxWaiting + 4)
    }

    /// Any loss and reordering of replays: the batches applied are in order, without repetition, and each gap is told.
    @Test("no batch is lost silently or applied twice", arguments: 0..<50 as Range<UInt64>)
    func model(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var tracker = SequenceTracker(canReplay: Bool.random(using: &random))
        var applied: [UInt64] = []
        var doubts = 0
        var numbers: [[UInt8]: UInt64] = [:]
        var replayFrom: UInt64?
        func run(_ actions: [SequenceTracker.Action]) {
            for action in actions {
                switch action {
                case .apply(let payload): applied.append(numbers[payload] ?? .max)
                case .doubt(let lost): doubts += Int(lost)
                case .replay(let from): replayFrom = from
                case .restart: Issue.record("no engine restarted")
                }
            }
        }
        for number in 0..<200 as Range<UInt64> {
            let payload = [UInt8(truncatingIfNeeded: number), UInt8(truncatingIfNeeded: number >> 8)]
            numbers[payload] = number
            if number > 0, Int.random(in: 0..<5, using: &random) == 0 { continue }
            run(tracker.live(number, payload))
            if let from = replayFrom, Bool.random(using: &random) {
                replayFrom = nil
                let oldest = Bool.random(using: &random) ? from : min(from + 2, number)
                for old in min(oldest, number)...number where Int.random(in: 0..<20, using: &random) > 0 {
                    run(tracker.replayed(old, [UInt8(truncatingIfNeeded: old), UInt8(truncatingIfNeeded: old >> 8)]))
                }
                run(tracker.replayEnded())
            }
        }
        run(tracker.replayEnded())
        #expect(zip(applied, applied.dropFirst()).allSatisfy { $0 < $1 })
        let last = applied.last ?? 0
        #expect(Int(last) + 1 - applied.count == doubts, "each batch is applied or told lost")
    }
}
