// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router
import Testing

@testable import Simulation

/// What `simulate --control` runs: the value of time steered towards a target while requests come.
struct ControlTests {
    /// A dear pod and one that takes three times as long for a fiftieth of the dollars. Ten minutes of a request a second.
    private func dollars(_ control: ControlTarget?) throws -> (spent: Double, attainment: Double, ttft: Double) {
        var options = Scene.exact
        options.controlDelay = 0.01
        var experiment = Experiment(
            workload: Scene.mixed(600, rate: 1, seed: 5),
            endpoints: [
                Scene.endpoint(0, .both, .round(dollarsPerSecond: 0.05)),
                Scene.endpoint(1, .both, .round(prefillPerToken: 3e-4, dollarsPerSecond: 0.001)),
            ],
            options: options,
            mode: .latency
        )
        experiment.adjust = { $0.control = control }
        let policy = try #require(PolicyName("joint"))
        let metrics = try experiment.run(policy, load: 1, seed: 1).metrics
        return (metrics.busyDollarsPerThousand, metrics.sloAttainment, metrics.ttftMean)
    }

    @Test("Fewer dollars than are spent: time becomes cheap, and requests go to the cheap pod")
    func aBudgetMovesRequests() throws {
        let free = try dollars(nil)
        let tight = try dollars(.dollarsPerRequest(Dollars(free.spent / 1000 / 3)))
        #expect(tight.spent < 0.75 * free.spent)
        #expect(tight.ttft > free.ttft)
        // A budget that is not reached lets time become dearer, and nothing cheaper.
        let wide = try dollars(.dollarsPerRequest(Dollars(free.spent / 1000 * 10)))
        #expect(wide.spent >= 0.95 * free.spent)
    }

    @Test("Less attainment than there is: time becomes cheap, too")
    func aModestTargetSavesDollars() throws {
        let free = try dollars(nil)
        let modest = try dollars(.attainment(0.5))
        #expect(modest.spent < 0.9 * free.spent)
        #expect(modest.attainment <= free.attainment)
    }
}
