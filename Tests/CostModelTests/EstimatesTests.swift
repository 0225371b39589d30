// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@Suite struct EstimatesTests {
    private let profile = SmallCatalog.catalog.profile(
        accelerator: "h100-sxm",
        model: "llama-3.1-70b",
        tensorParallel: 4,
        dtype: "fp8"
    )

    private func near(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 1e-9 * max(abs(a), abs(b), 1e-9) }

    /// Formula (5) by hand.
    @Test func closedLoop() {
        let decode = profile.decode.step(batch: 16, kvTokens: 16 * (1000 + 100)).rawValue
        let prefill = profile.prefill.duration(newTokens: 1000, cachedTokens: 0).rawValue
        let tpot = profile.closedLoopTPOT(batch: 16, input: 1000, output: 200).rawValue
        #expect(near(tpot, decode + 15 * prefill / 200))
        // An output of one token, or none, divides by nothing.
        #expect(profile.closedLoopTPOT(batch: 0, input: 0, output: 0).rawValue.isFinite)
        for odd in [Double.nan, .infinity, -.infinity, -1, 1e300] {
            #expect(profile.closedLoopTPOT(batch: 4, input: odd, output: 100).rawValue >= 0)
            #expect(profile.closedLoopTPOT(batch: odd, input: 9, output: odd).rawValue >= 0)
            for phase in StepTime.Phase.allCases {
                let time = StepTime(
                    phase: phase,
                    newTokens: odd,
                    cachedTokens: odd,
                    batch: 1,
                    kvTokens: 1,
                    duration: Seconds(1)
                )
                if phase != .mixed { #expect(time.estimate(profile).mean.rawValue >= 0) }
            }
        }
    }

    /// The closed form equals the sum of formula (1) over the chunks.
    @Test func chunkedPrefillIsTheSumOfItsSteps() {
        var rng = SplitMix64(seed: 21)
        for _ in 0..<500 {
            let n = Double(Int.random(in: 1...20_000, using: &rng))
            let p = Double(Int.random(in: 0...30_000, using: &rng))
            let b = Double(Int.random(in: 0...100, using: &rng))
            let k = Double(Int.random(in: 0...300_000, using: &rng))
            let budget = Double([256, 512, 2048, 8192].randomElement(using: &rng) ?? 2048)
            var rest = n
            var done = 0.0
            var sum = 0.0
            var steps = 0.0
            while rest > 0 {
                let chunk = min(max(budget - b, 16), rest)
                sum +=
                    profile.mixed.step(
                        newTokens: chunk,
                        pairs: chunk * (p + done) + chunk * chunk / 2,
                        chunkContext: p + done + chunk,
                        batch: b,
                        kvTokens: k
                    ).rawValue
                rest -= chunk
                done += chunk
                steps += 1
            }
            let (duration, count) = profile.mixed.chunkedPrefill(
                newTokens: n,
                cachedTokens: p,
                budget: budget,
                batch: b,
                kvTokens: k
            )
            #expect(near(duration.rawValue, sum), "n \(n) p \(p) b \(b) budget \(budget)")
            #expect(count == steps)
        }
        #expect(
            profile.mixed.chunkedPrefill(newTokens: 0, cachedTokens: 9, budget: 0, batch: 0, kvTokens: 0).duration
                == .zero
        )
    }

    @Test func unseenQueue() {
        // M/D/1 at half load: E[W] = ρ·S / (2(1 − ρ)) = S/2.
        let wait = Queueing.unseenWait(rate: 0.5, mean: Seconds(1), meanSquare: 1)
        #expect(near(wait.rawValue, 0.5))
        #expect(Queueing.unseenWait(rate: 2, mean: Seconds(1), meanSquare: 1) == Queueing.longestWait)
        #expect(Queueing.unseenWait(rate: 0, mean: .zero, meanSquare: 0) == .zero)
    }

    @Test func admissionWaitsForReleasedRoom() {
        let capacity = Double(profile.kvCapacityTokens)
        let none = Queueing.admissionWait(profile: profile, kvTokens: 10, batch: 1, needed: 10, meanOutput: 100)
        #expect(none == .zero)
        let step = profile.decode.step(batch: 10, kvTokens: capacity).rawValue
        let wait = Queueing.admissionWait(
            profile: profile,
            kvTokens: capacity,
            batch: 10,
            needed: capacity / 10,
            meanOutput: 100
        )
        // A tenth of the room is one request's, and one ends every tenth of 100 steps.
        #expect(near(wait.rawValue, 10 * step))
        let empty = Queueing.admissionWait(profile: profile, kvTokens: 0, batch: 0, needed: 1e12, meanOutput: 0)
        #expect(empty == Queueing.longestWait)
    }

    @Test func overflow() {
        func chance(_ kv: Double, variance: Double) -> Double {
            KVOverflow(kvTokens: kv, expectedGrowth: 1000, variance: variance, capacity: 10_000).probability
        }
        #expect(abs(chance(9000, variance: 100 * 100) - 0.5) < 1e-12)
        #expect(abs(chance(8800, variance: 100 * 100) - 0.02275) < 1e-4)
        #expect(chance(8999, variance: 0) == 0)
        #expect(chance(9001, variance: 0) == 1)
        #expect(chance(.nan, variance: 1) == 1)
    }

    @Test func speculation() {
        let half = SpeculativeDecoding(acceptance: 0.5, draftTokens: 3, draftTime: .zero)
        #expect(near(half.tokensPerStep, (1 - 0.0625) / 0.5))
        let sure = SpeculativeDecoding(acceptance: 1, draftTokens: 3, draftTime: .zero)
        #expect(sure.tokensPerStep == 4)
        let none = SpeculativeDecoding(acceptance: 0.9, draftTokens: 0, draftTime: .zero)
        #expect(none.tpot(profile: profile, batch: 8, kvTokens: 8000) == profile.decode.step(batch: 8, kvTokens: 8000))
        // A small batch gains; far above the knee the further tokens cost as much as they bring.
        let draft = SpeculativeDecoding(acceptance: 0.6, draftTokens: 4, draftTime: Seconds(0.001))
        let few = draft.tpot(profile: profile, batch: 2, kvTokens: 4000).rawValue
        #expect(few < profile.decode.step(batch: 2, kvTokens: 4000).rawValue)
        let many = draft.tpot(profile: profile, batch: 2000, kvTokens: 4000).rawValue
        #expect(many > profile.decode.step(batch: 2000, kvTokens: 4000).rawValue)
    }

    @Test func price() {
        let share = RequestPrice.busyShare(
            prefillPod: profile,
            prefill: Seconds(0.5),
            decodePod: profile,
            step: Seconds(0.02),
            batch: 10,
            outputTokens: 100
        )
        #expect(near(share.rawValue, profile.dollarsPerSecond * (0.5 + 0.2)))
        let marginal = RequestPrice.marginal(
            prefillPod: profile,
            prefill: Seconds(0.5),
            decodePod: profile,
            stepWith: Seconds(0.021),
            stepWithout: Seconds(0.02),
            outputTokens: 100
        )
        #expect(near(marginal.rawValue, profile.dollarsPerSecond * (0.5 + 0.1)))
    }
}
