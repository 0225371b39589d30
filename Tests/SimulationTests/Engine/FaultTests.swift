// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import Simulation

struct FaultTests {
    private func run(_ faults: [Fault], reports: BlockReports = BlockReports()) throws -> PolicyMetrics {
        var options = SimulationOptions()
        options.faults = faults
        options.blockReports = reports
        options.pickers = 2
        return PolicyMetrics(
            try Simulation(
                workload: Scene.mixed(300, rate: 6, seed: 9),
                endpoints: Scene.fleet(prefill: 3, decode: 2),
                options: options,
                makePolicy: Scene.maker(DynamoRule(), pulls: true)
            ).run()
        )
    }

    @Test func aCrashFailsSomeRequestsAndNoMore() throws {
        let healthy = try run([])
        let crashed = try run([Fault(.crash(pod: 0), from: 10, to: 20), Fault(.crash(pod: 3), from: 30, to: 31)])
        #expect(healthy.failed == 0)
        #expect(crashed.failed > 0 && crashed.failed < 60)
        #expect(crashed.succeeded + crashed.failed == 300)
        #expect(crashed.ttftMean > healthy.ttftMean)
    }

    @Test func aPickersRestartFailsNothingThatWasSent() throws {
        #expect(try run([Fault(.pickerRestart(picker: 0), from: 15, to: 15)]).failed == 0)
    }

    @Test func slowPodsAndWrongProfilesSlowTheRun() throws {
        let healthy = try run([])
        #expect(try run([Fault(.slow(pod: 0, factor: 3), from: 5, to: 40)]).ttftMean > healthy.ttftMean)
        #expect(try run([Fault(.profileOff(factor: 2), from: 0, to: 100)]).ttftMean > healthy.ttftMean * 1.5)
    }

    @Test func missingScrapesAndLostReportsStopNothing() throws {
        #expect(try run([Fault(.missingScrapes(pod: 1), from: 0, to: 60)]).succeeded == 300)
        let exact = try run([])
        let lost = try run([], reports: BlockReports(loss: 0.5, meanDelay: 0.2))
        #expect(lost.succeeded == 300)
        #expect(lost.prefixHitRatio < exact.prefixHitRatio)
    }
}
