// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import Simulation

struct EventQueueTests {
    @Test func earliestFirstAndFirstComeAmongEquals() {
        var queue = EventQueue()
        var draw = RandomStream(seed: 4)
        var expected: [(Double, Int)] = []
        for index in 0..<500 {
            let at = Double(draw.next() % 50)
            queue.push(at: at, .arrival, index)
            expected.append((at, index))
        }
        expected.sort { $0 < $1 }
        for (at, index) in expected {
            let event = queue.pop()
            #expect(event?.at == at && event?.a == Int32(index))
        }
        #expect(queue.pop() == nil)
    }
}

struct OutputLengthTests {
    @Test func theMedianOfTheBucketElseOfTheNearest() {
        var lengths = MedianOutputLengths()
        #expect(lengths.estimate(promptTokens: 1000) == MedianOutputLengths.firstGuess)
        for value in [10, 30, 20] { lengths.observe(promptTokens: 600, outputTokens: value) }
        #expect(lengths.estimate(promptTokens: 1023) == 20)
        #expect(lengths.estimate(promptTokens: 5000) == 20)
        lengths.observe(promptTokens: 4096, outputTokens: 900)
        #expect(lengths.estimate(promptTokens: 5000) == 900)
    }

    @Test func onlyTheLastHundredCount() {
        var lengths = MedianOutputLengths()
        for _ in 0..<100 { lengths.observe(promptTokens: 600, outputTokens: 10) }
        for _ in 0..<51 { lengths.observe(promptTokens: 600, outputTokens: 500) }
        #expect(lengths.estimate(promptTokens: 600) == 500)
    }
}

struct RandomStreamTests {
    @Test func drawsHaveTheirMoments() {
        var draw = RandomStream(seed: 1)
        let normals = (0..<20_000).map { _ in draw.normal() }
        let mean = normals.reduce(0, +) / 20_000
        let variance = normals.reduce(0) { $0 + $1 * $1 } / 20_000
        #expect(abs(mean) < 0.03 && abs(variance - 1) < 0.05)
        let factors = (0..<20_000).map { _ in draw.logNormal(sigma: 0.2) }
        #expect(abs(factors.reduce(0, +) / 20_000 - 1) < 0.01)
    }
}
