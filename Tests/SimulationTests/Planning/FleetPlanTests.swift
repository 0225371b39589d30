// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router
import Testing

@testable import Simulation

struct FleetPlanTests {
    private func choice(_ label: String, perToken: Double, dollarsPerSecond: Double) -> PodChoice {
        let profile = PodProfile.round(prefillPerToken: perToken, dollarsPerSecond: dollarsPerSecond)
        var endpoint = Scene.endpoint(0, .both, profile)
        endpoint.accelerator = label
        return PodChoice(label: label, endpoint: endpoint, dtype: "bfloat16")
    }

    /// Prompts of 1,000 tokens at even gaps, short answers.
    private func steady(_ count: Int, gap: Double) -> Workload {
        Scene.workload(
            (0..<count).map { OfferedRequest(arrival: Double($0) * gap, promptTokens: 1000, outputTokens: 2) }
        )
    }

    private func plan(_ choices: [PodChoice], _ workload: Workload, ttft: Double) -> FleetPlan {
        var options = Scene.exact
        options.serviceLevel = ServiceLevelRule(ttftBase: Seconds(ttft), tpot: Seconds(1))
        let experiment = Experiment(workload: workload, endpoints: [], options: options, mode: .latency)
        return FleetPlan(choices: choices, experiment: experiment, policy: PolicyName(.joint))
    }

    @Test func oneCheapPodIsEnoughWhereItIsFastEnough() throws {
        // 210 ms a prompt on the cheap pod, one each second, a second allowed: no second pod is needed.
        let choices = [
            choice("fast", perToken: 1e-4, dollarsPerSecond: 0.002),
            choice("cheap", perToken: 2e-4, dollarsPerSecond: 0.001),
        ]
        let result = try plan(choices, steady(40, gap: 1), ttft: 1).search()
        let best = try #require(result.best)
        #expect(best.mix.described(choices) == "1 × cheap both")
        #expect(isNear(best.dollarsPerHour, 3.6))
        #expect(best.attainment == 1)
        // The next in price holds too, and is dearer.
        #expect(isNear(result.runnerUp?.dollarsPerHour, 7.2))
    }

    @Test func speedIsBoughtWhereTheServiceLevelAsksForIt() throws {
        // The cheap pod takes 210 ms for a prompt: no number of them meets 150 ms.
        let choices = [
            choice("fast", perToken: 1e-4, dollarsPerSecond: 0.0025),
            choice("cheap", perToken: 2e-4, dollarsPerSecond: 0.001),
        ]
        let result = try plan(choices, steady(40, gap: 1), ttft: 0.15).search()
        #expect(result.best?.mix.described(choices) == "1 × fast both")
        #expect(result.failed != nil)
    }

    @Test func fleetsThatNoPolicyCouldSaveAreNotRun() throws {
        // Ten prompts of 110 ms a second need two pods; a single one has room for 9.1 of them, so it is not simulated.
        let choices = [choice("fast", perToken: 1e-4, dollarsPerSecond: 0.002)]
        let result = try plan(choices, steady(200, gap: 0.1), ttft: 1).search()
        #expect(result.best?.mix.pods == 2)
        #expect(result.beyondBound >= 1)
    }

    @Test func aFleetThatIsTooSmallIsSaidToBe() throws {
        let choices = [choice("fast", perToken: 1e-4, dollarsPerSecond: 0.002)]
        var small = plan(choices, steady(200, gap: 0.01), ttft: 1)
        small.maximumPods = 3
        let result = try small.search()
        #expect(result.best == nil && result.runs == 0 && result.beyondBound == result.looked)
    }

    @Test func runsEndWhenTooManyHaveMissed() throws {
        var experiment = plan([], steady(100, gap: 0.01), ttft: 0.2).experiment
        experiment.endpoints = [Scene.endpoint(0, .both)]
        let name = PolicyName(.joint)
        #expect(try experiment.run(name, load: 1, seed: 1, mostMissed: 5) == nil)
        let whole = try experiment.run(name, load: 1, seed: 1, mostMissed: 100)
        #expect(whole?.metrics.requests == 100)
    }

    /// At the last gap the rule of thumb costs a fleet that holds: another of its kind with as much room fails.
    @Test(
        "Few runs name the fleet that judging every one of them names",
        arguments: zip([0.3, 0.15, 0.08, 0.05], [1, 1, 1, 1.1])
    )
    func searchIsAsGoodAsJudgingAll(gap: Double, dearer: Double) throws {
        // Cheap pods are the better buy per token, but alone miss the bound of long prompts.
        let choices = [
            choice("fast", perToken: 1e-4, dollarsPerSecond: 0.0025),
            choice("cheap", perToken: 2e-4, dollarsPerSecond: 0.001),
        ]
        let requests = (0..<120).map {
            OfferedRequest(arrival: Double($0) * gap, promptTokens: $0 % 5 == 0 ? 3000 : 700, outputTokens: 20)
        }
        var plan = plan(choices, Scene.workload(requests), ttft: 0.5)
        plan.maximumPods = 5
        let found = try plan.search()
        var all: Set<FleetMix> = []
        var edge = FleetMix.smallest(choices: choices.count)
        while let mix = edge.popLast() {
            guard all.insert(mix).inserted, mix.pods < plan.maximumPods else { continue }
            edge += mix.grown()
        }
        let judged = try all.map { try plan.judge($0, price: $0.dollarsPerHour(choices), room: 0) }
        let holding = judged.filter(\.holds).map(\.dollarsPerHour).sorted()
        let best = try #require(found.best).dollarsPerHour
        let second = try #require(found.runnerUp).dollarsPerHour
        #expect(best >= holding[0] && best <= holding[0] * dearer + 1e-9)
        #expect(second >= holding[1] && second <= holding[1] * dearer + 1e-9)
        #expect(
            found.runs < all.count / 3 && !found.mayBeCheaper && !found.mayHaveOthers,
            "\(found.runs) of \(all.count)"
        )
    }

    @Test func whatTheRunsDidNotDecideIsTold() throws {
        let choices = [
            choice("fast", perToken: 1e-4, dollarsPerSecond: 0.0025),
            choice("cheap", perToken: 2e-4, dollarsPerSecond: 0.001),
        ]
        // The first two by price are cheap pods, which do not meet the bound of the first token.
        var short = plan(choices, steady(40, gap: 1), ttft: 0.15)
        short.maximumRuns = 2
        let result = try short.search()
        #expect(result.runs == 2 && result.best == nil && result.mayBeCheaper)
    }
}
