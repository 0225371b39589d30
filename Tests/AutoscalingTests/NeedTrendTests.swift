// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Testing

@testable import Autoscaling

@Suite struct NeedTrendTests {
    @Test("Lines of replicas that began at different moments go through the same points")
    func samePoints() {
        // A ramp with a spike every 7 seconds, looked at each second.
        func need(_ second: Int) -> Double { 2 + 0.05 * Double(second) + (second % 7 == 0 ? 3 : 0) }
        var early = NeedTrend()
        var late = NeedTrend()
        for second in 0..<400 {
            let now = Instant(Double(second) + 0.2)
            early.add(need(second), at: now)
            if second >= 103 { late.add(need(second), at: now) }
        }
        let growth = early.growth(over: Seconds(90))
        #expect(growth > 0.5)
        #expect(late.growth(over: Seconds(90)) == growth)
    }

    @Test("A line foretells no more than another time of what it says now, whatever the last reading was")
    func doubles() {
        var trend = NeedTrend()
        for step in 0...12 { trend.add(Double(step), at: Instant(Double(step) * 5)) }
        // 0.2 per second, 12 at its end; within 1000 seconds 200 would be added.
        #expect(abs(trend.growth(over: Seconds(1000)) - 12) < 1e-9)
    }
}
