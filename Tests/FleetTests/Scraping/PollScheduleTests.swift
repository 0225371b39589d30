// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Fleet
import Router
import TestSupport
import Testing

private let settings = PollSchedule.Settings(
    shortest: Seconds(0.05),
    longest: Seconds(1),
    firstRetry: Seconds(0.1)
)

private func ids(_ count: Int) -> [EndpointID] { (0..<count).map { EndpointID(UInt32($0)) } }

@Suite struct PollScheduleTests {
    private var random = SplitMix64(seed: 3)

    @Test func newEndpointsAreDueAtOnceAndOnlyOnce() {
        var schedule = PollSchedule(settings)
        schedule.replace(ids(3), at: 10)
        #expect(schedule.nextDue == 10)
        #expect(schedule.take(at: 9.9, limit: 9, failingLimit: 9).isEmpty)
        #expect(schedule.take(at: 10, limit: 2, failingLimit: 9) == ids(2))
        #expect(schedule.take(at: 10, limit: 2, failingLimit: 9) == [EndpointID(2)])
        #expect(schedule.take(at: 99, limit: 2, failingLimit: 9).isEmpty)
        #expect(schedule.nextDue == .infinity)
    }

    /// The intervals that follow from a run of outcomes of one endpoint.
    private func intervals(_ outcomes: [PollSchedule.Outcome], rate: Double? = nil, of count: Int = 1) -> [Double] {
        var random = SplitMix64(seed: 9)
        var schedule = PollSchedule(settings)
        schedule.replace(ids(count), at: 0)
        if let rate { schedule.limit(rate: rate) }
        _ = schedule.take(at: 0, limit: count, failingLimit: count)
        var time = 0.0
        return outcomes.map { outcome in
            schedule.finished(EndpointID(0), outcome, at: time, using: &random)
            let interval = schedule.nextDue - time
            time = schedule.nextDue
            _ = schedule.take(at: time, limit: 1, failingLimit: 1)
            return interval
        }
    }

    @Test func busyPagesAreAskedForOftenAndIdleOnesRarely() {
        let busy = intervals(Array(repeating: .changed, count: 20))
        #expect(busy.allSatisfy { $0 >= 0.045 && $0 <= 0.055 })
        #expect(Set(busy).count > 10, "no jitter")
        let idle = intervals(Array(repeating: .unchanged, count: 20))
        #expect(idle.last.map { $0 >= 0.9 && $0 <= 1.1 } == true)
        #expect(idle[0] < 0.1)
        let woken = intervals(Array(repeating: .unchanged, count: 20) + [.changed])
        #expect(woken.last.map { $0 <= 0.055 } == true)
    }

    @Test func failuresBackOffAndRecover() {
        let failing = intervals(Array(repeating: .failed, count: 40))
        #expect(failing[0] >= 0.09 && failing[0] <= 0.11)
        #expect(failing[1] >= 0.18 && failing[1] <= 0.22)
        #expect(failing.allSatisfy { $0 <= 1.1 })
        #expect(failing[39] >= 0.9)
        let recovered = intervals([.failed, .failed, .failed, .unchanged])
        #expect(recovered[3] <= 0.055)
    }

    @Test func theRateIsLimitedButNotBeyondTheLongestInterval() {
        // 100 endpoints at 1,000 pages per second: 100 ms each.
        #expect(intervals([.changed], rate: 1000, of: 100)[0] >= 0.09)
        #expect(intervals([.changed], rate: 1, of: 100)[0] <= 1.1)
    }

    @Test func failingEndpointsDoNotTakeAllPlaces() {
        var random = SplitMix64(seed: 4)
        var schedule = PollSchedule(settings)
        let all = ids(10)
        schedule.replace(all, at: 0)
        _ = schedule.take(at: 0, limit: 10, failingLimit: 2)
        for id in all { schedule.finished(id, id.rawValue < 8 ? .failed : .unchanged, at: 0, using: &random) }
        let taken = schedule.take(at: 5, limit: 6, failingLimit: 2)
        #expect(taken.count == 4)
        #expect(taken.filter { $0.rawValue >= 8 }.count == 2)
    }

    @Test func endpointsThatLeftAreForgotten() {
        var random = SplitMix64(seed: 4)
        var schedule = PollSchedule(settings)
        schedule.replace(ids(2), at: 0)
        _ = schedule.take(at: 0, limit: 2, failingLimit: 2)
        schedule.replace([EndpointID(1)], at: 0)
        schedule.finished(EndpointID(0), .changed, at: 0, using: &random)
        schedule.finished(EndpointID(1), .changed, at: 0, using: &random)
        #expect(schedule.take(at: 5, limit: 5, failingLimit: 5) == [EndpointID(1)])
    }
}
