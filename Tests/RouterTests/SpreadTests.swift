// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@testable import Router

struct SpreadTests {
    @Test func theCalibratedQuantileIsTheNinetiethPercentile() {
        #expect(abs(Spread.probability(above: 1.2, mean: 1, margin: 0.2) - 0.1) < 1e-3)
        #expect(Spread.probability(above: 1, mean: 1, margin: 0.2) == 0.5)
        #expect(Spread.probability(above: 2, mean: 1, margin: 0.2) == 0)
        #expect(Spread.probability(above: 1, mean: 2, margin: 0.2) == 1)
    }

    @Test func withoutMarginItIsAStep() {
        #expect(Spread.probability(above: 1, mean: 1, margin: 0) == 0)
        #expect(Spread.probability(above: 1, mean: 1.0001, margin: 0) == 1)
    }

    @Test func growsWithTheMean() {
        var random = SplitMix64(seed: 7)
        for _ in 0..<1000 {
            let limit = Double.random(in: 0...3, using: &random)
            let margin = Double.random(in: 0...1, using: &random)
            let a = Double.random(in: 0...3, using: &random)
            let b = a + Double.random(in: 0...1, using: &random)
            #expect(
                Spread.probability(above: limit, mean: a, margin: margin)
                    <= Spread.probability(above: limit, mean: b, margin: margin)
            )
        }
    }
}
