// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@testable import Autoscaling

@Suite struct ReplicaChoiceTests {
    @Test("For one steady need two choices with different pasts end within one of each other")
    func neighbours() {
        var random = SplitMix64(seed: 11)
        for _ in 0..<300 {
            var choices = [0, 1].map { _ in
                ReplicaChoice(replicas: Int.random(in: 0...40, using: &random), window: Seconds(30), at: Instant(0))
            }
            for at in 0..<60 {
                for index in choices.indices {
                    let past = Double.random(in: 0...30, using: &random)
                    _ = choices[index].decide(need: past, present: 0, at: Instant(Double(at)))
                }
            }
            let need = Double.random(in: 0...30, using: &random)
            for at in 60..<130 {
                for index in choices.indices {
                    // As far apart as two replicas' views of one load.
                    let view = need * Double.random(in: 0.99...1.01, using: &random)
                    _ = choices[index].decide(need: view, present: 0, at: Instant(Double(at)))
                }
            }
            #expect(abs(choices[0].replicas - choices[1].replicas) <= 1, "need \(need)")
        }
    }

    @Test("It rises at once, falls after the window, and meets the need all the while")
    func risesAndFalls() {
        var choice = ReplicaChoice(replicas: 1, window: Seconds(60), at: Instant(0))
        #expect(choice.decide(need: 4.2, present: 1, at: Instant(1)) == 5)
        #expect(choice.decide(need: 5.09, present: 1, at: Instant(2)) == 5)
        for at in 3..<61 { #expect(choice.decide(need: 1.2, present: 5, at: Instant(Double(at))) == 5) }
        #expect(choice.decide(need: 1.2, present: 5, at: Instant(63)) == 2)
        #expect(choice.decide(need: 0, present: 2, at: Instant(64)) == 2)
        #expect(choice.decide(need: 0, present: 2, at: Instant(130)) == 0)
        #expect(choice.decide(need: 0.001, present: 0, at: Instant(131)) == 1)
    }

    @Test("Needs that are no numbers ask for nothing, endless ones for the limit")
    func hostile() {
        var choice = ReplicaChoice(replicas: -5, window: Seconds(0), at: Instant(0))
        #expect(choice.decide(need: .nan, present: -1, at: Instant(1)) == 0)
        #expect(choice.decide(need: .infinity, present: 0, at: Instant(2)) == 0)
        #expect(choice.decide(need: 1e12, present: 0, at: Instant(3)) == ReplicaChoice.limit)
    }
}
