// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router
import Testing

@testable import Simulation

struct PolicyNameTests {
    @Test func suffixesMayStandInEitherOrder() {
        #expect(PolicyName("llm-d") == PolicyName(.llmD))
        #expect(PolicyName("llm-d-pull@tuned") == PolicyName(.llmD, isTuned: true, pulls: true))
        #expect(PolicyName("llm-d@tuned-pull") == PolicyName(.llmD, isTuned: true, pulls: true))
        #expect(PolicyName("joint-no-pull") == PolicyName(.jointNoPull))
        for base in PolicyName.Base.allCases { #expect(PolicyName(base.rawValue)?.text == base.rawValue) }
    }

    @Test(arguments: ["", "llmd", "joint@tuned", "joint-pull", "llm-d-pull-pull", "llm-d@tuned@tuned", "-pull"])
    func otherNamesAreNone(name: String) { #expect(PolicyName(name) == nil) }

    @Test func tunedBaselinesAreAtLeastAsGoodAsTheStandard() throws {
        for base in [PolicyName.Base.llmD, .lmetric] {
            let experiment = Experiment(
                workload: Scene.mixed(200, rate: 10, seed: 2),
                endpoints: Scene.fleet(prefill: 2, decode: 2),
                options: SimulationOptions(),
                mode: .latency
            )
            let plain = try experiment.run(PolicyName(base), load: 1, seed: 1)
            let tuned = try experiment.run(PolicyName(base, isTuned: true), load: 1, seed: 1)
            #expect(tuned.metrics.sloAttainment >= plain.metrics.sloAttainment)
        }
    }

    @Test func ourPoliciesServeEverythingOnEveryFleet() throws {
        let fleets = [
            Scene.fleet(prefill: 2, decode: 2), Scene.fleet(prefill: 0, decode: 0, both: 3),
            Scene.fleet(prefill: 1, decode: 1, both: 2),
        ]
        for name in [PolicyName.Base.jointEarly, .joint, .jointClairvoyant, .jointNoPull] {
            for fleet in fleets {
                let experiment = Experiment(
                    workload: Scene.mixed(150, rate: 8, seed: 3),
                    endpoints: fleet,
                    options: SimulationOptions(),
                    mode: .latency
                )
                let run = try experiment.run(PolicyName(name), load: 1, seed: 1)
                #expect(run.metrics.succeeded == 150)
                #expect(name != .jointNoPull || run.metrics.pulls == 0)
            }
        }
    }
}
