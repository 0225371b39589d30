// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import Transport

@Suite("Timers")
struct TimerQueueTests {
    private func time(_ nanoseconds: Int) -> MonotonicTime { MonotonicTime(nanoseconds: UInt64(nanoseconds)) }

    /// Any history of adding, cancelling and waiting does what a sorted list does.
    @Test("Agrees with a sorted list", arguments: UInt64(1)...40)
    func agreesWithList(seed: UInt64) {
        var rng = SplitMix64(seed: seed)
        var queue = TimerQueue()
        var list: [(deadline: Int, id: Int, token: TimerQueue.Token)] = []
        var fired: [Int] = []
        var expected: [Int] = []
        var now = 0
        for id in 0..<500 {
            switch Int.random(in: 0..<4, using: &rng) {
            case 0, 1:
                let deadline = now + Int.random(in: 0..<20, using: &rng)
                let token = queue.add(at: time(deadline)) { fired.append(id) }
                list.append((deadline, id, token))
            case 2:
                guard let victim = list.indices.randomElement(using: &rng) else { continue }
                let token = list.remove(at: victim).token
                let outcome = [queue.cancel(token), queue.cancel(token)]
                #expect(outcome == [true, false])
            default:
                now += Int.random(in: 0..<8, using: &rng)
                while let action = queue.popDue(time(now)) { action() }
                let due = list.filter { $0.deadline <= now }.sorted { ($0.deadline, $0.id) < ($1.deadline, $1.id) }
                expected += due.map(\.id)
                list.removeAll { $0.deadline <= now }
                let late = due.filter { queue.cancel($0.token) }.count
                #expect(late == 0)
            }
            #expect(queue.count == list.count)
            #expect(queue.nextDeadline == list.map(\.deadline).min().map(time))
        }
        #expect(fired == expected, "seed \(seed)")
    }

    @Test("A deadline beyond all time saturates")
    func saturation() {
        #expect(time(5) + .seconds(Int64.max) == MonotonicTime(nanoseconds: .max))
        #expect(time(5) + .nanoseconds(-3) == time(5))
        #expect(time(5) - time(9) == .zero)
        #expect(time(1_500_000_000) - time(0) == .milliseconds(1500))
    }
}
