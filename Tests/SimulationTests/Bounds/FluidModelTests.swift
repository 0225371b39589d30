// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router
import Testing

@testable import Simulation

/// Programmes that can be solved by hand.
struct FluidModelTests {
    @Test func theSimplexMethodFindsTheCorner() {
        // 3x + 5y, x ≤ 4, 2y ≤ 12, 3x + 2y ≤ 18: 36 at (2, 6).
        var program = LinearProgram(maximize: [3, 5])
        program.add([(0, 1)], atMost: 4)
        program.add([(1, 2)], atMost: 12)
        program.add([(0, 3), (1, 2)], atMost: 18)
        let solution = program.solved()
        #expect(isNear(solution?.value, 36, tolerance: 1e-6))
        #expect(isNear(solution?.x[0], 2, tolerance: 1e-6) && isNear(solution?.x[1], 6, tolerance: 1e-6))
    }

    @Test func degenerateProgramsEnd() {
        // Beale's example, on which the largest coefficient alone cycles for ever: 0.05 at (0.04, 0, 1, 0).
        var program = LinearProgram(maximize: [0.75, -150, 0.02, -6])
        program.add([(0, 0.25), (1, -60), (2, -0.04), (3, 9)], atMost: 0)
        program.add([(0, 0.5), (1, -90), (2, -0.02), (3, 3)], atMost: 0)
        program.add([(2, 1)], atMost: 1)
        #expect(isNear(program.solved()?.value, 0.05, tolerance: 1e-4))
    }

    @Test func anObjectiveWithoutABoundHasNoSolution() {
        var program = LinearProgram(maximize: [1, 1])
        program.add([(0, 1)], atMost: 1)
        #expect(program.solved() == nil)
    }

    private func model(
        _ requests: [OfferedRequest],
        _ endpoints: [Endpoint],
        tpot: Double = .infinity,
        slowness: Double = 1
    ) -> FluidModel {
        let workload = Scene.workload(requests)
        let slow = endpoints.map { _ in slowness }
        let groups = PodGroup.groups(endpoints, slowness: slow)
        return FluidModel(workload: workload, cached: requests.map { _ in 0 }, groups: groups, tpot: tpot)
    }

    /// One request a second, ten seconds from the first to the last.
    private func every(second lengths: [Int], output: Int = 1) -> [OfferedRequest] {
        lengths.enumerated().map { index, tokens in
            OfferedRequest(
                arrival: Double(index),
                promptTokens: tokens,
                outputTokens: output
            )
        }
    }

    @Test func promptsFillEveryPod() {
        // 11 prompts of 110 ms in 10 s, two pods that may compute them: 20 s of time for 1.21 s of work.
        let requests = every(second: Array(repeating: 1000, count: 11))
        #expect(isNear(model(requests, Scene.pair).highestLoad(free: 0), 20 / 1.21, tolerance: 1e-6))
        // Pods twice as slow carry half of it.
        #expect(isNear(model(requests, Scene.pair, slowness: 2).highestLoad(free: 0), 10 / 1.21, tolerance: 1e-6))
    }

    @Test func theLongestAreLeftOutFirst() {
        // Ten prompts of 110 ms and one of 1,010 ms; of 11 requests one may be left out.
        let requests = every(second: Array(repeating: 1000, count: 10) + [10_000])
        let fluid = model(requests, [Scene.endpoint(0, .both)])
        let all = 10 * 0.11 + chunked(10_000)
        #expect(isNear(fluid.highestLoad(free: 0), 10 / all, tolerance: 1e-6))
        #expect(isNear(fluid.highestLoad(free: 1.0 / 11), 10 / 1.1, tolerance: 1e-6))
    }

    /// 10 ms for each of the steps of 2,048 tokens, 0.1 ms per token.
    private func chunked(_ tokens: Int) -> Double {
        (Double(tokens) / 2048).rounded(.up) * 0.010 + Double(tokens) * 1e-4
    }

    @Test func decodingTakesTimeFromPrompts() {
        // τ = 50 ms. A full chunk takes 10 + 204.8 ms, so chunks carry no more than K says. Contexts of 100 + 500: a
        // sequence adds 1.6 ms to a step of 10 ms. K at √(10 · 214.8) = 46.35 ms, below τ:
        // (46.35 − 10)(214.8 − 46.35) / (46.35 · (214.8 − 50)).
        let best = (0.010 * 0.2148).squareRoot()
        let rate = (best - 0.010) * (0.2148 - best) / (best * (0.2148 - 0.050))
        let requests = every(second: Array(repeating: 100, count: 11), output: 1001)
        let group = PodGroup.groups([Scene.endpoint(0, .both)], slowness: [1])[0]
        let decode = DecodeRate(group, context: 600.5, tpot: 0.05)
        #expect(isNear(decode.secondsPerToken, 0.0016005 / rate, tolerance: 1e-12))
        // The last chunk of each prompt carries a step of 50 ms: (50 − 10) ms of sequences.
        #expect(isNear(decode.ride(newTokens: 100), 0.040 / rate, tolerance: 1e-12))
        let each = 0.020 + (1000 * 0.0016005 - 0.040) / rate
        let fluid = model(requests, [Scene.endpoint(0, .both)], tpot: 0.05)
        #expect(isNear(fluid.highestLoad(free: 0), 10 / (11 * each), tolerance: 1e-6))
    }

    @Test func dollarsGoWhereTheyAreFewest() {
        // A prompt costs 110 ms × 1 $ on the first pod and 210 ms × 0.4 $ = 0.084 $ on the second, which has 10 s for
        // 11 × 0.21 s: all go there.
        let fast = Scene.endpoint(0, .both, .round(dollarsPerSecond: 1))
        let cheap = Scene.endpoint(1, .both, .round(prefillPerToken: 2e-4, dollarsPerSecond: 0.4))
        let requests = every(second: Array(repeating: 1000, count: 11))
        #expect(isNear(model(requests, [fast, cheap]).leastDollars(), 11 * 0.084, tolerance: 1e-6))
        // Ten times as many prompts take 23.1 s of it: what does not fit goes to the first.
        var many: [OfferedRequest] = []
        for request in requests { many += Array(repeating: request, count: 10) }
        let fits = 10 / 0.21
        let expected = fits * 0.084 + (110 - fits) * 0.11
        #expect(isNear(model(many, [fast, cheap]).leastDollars(), expected, tolerance: 1e-6))
    }

    @Test func serviceIsNoFasterThanTheFastPodsHaveTime() {
        // 130 prompts in 10 s: the fast pod has time for 10 / 0.11 of them, the other takes 210 ms for each of the rest.
        let fast = Scene.endpoint(0, .both)
        let slow = Scene.endpoint(1, .both, .round(prefillPerToken: 2e-4))
        let requests = (0..<130).map {
            OfferedRequest(arrival: Double($0) * 10 / 129, promptTokens: 1000, outputTokens: 1)
        }
        let onFast = 10 / 0.11
        let mean = (onFast * 0.11 + (130 - onFast) * 0.21) / 130
        let fluid = model(requests, [fast, slow])
        #expect(isNear(fluid.leastServiceTime(setup: 0, firstStep: 0), mean, tolerance: 1e-6))
        // One pod alone cannot carry that.
        #expect(model(requests, [slow]).leastServiceTime(setup: 0, firstStep: 0) == nil)
        #expect(model(requests, [slow]).leastDollars() == nil)
    }
}
