// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation
import Glibc
import TestSupport
import Testing

@Suite struct PodCalibratorTests {
    /// Log-normal noise with a median of 1.
    private func noise(_ sigma: Double, _ rng: inout SplitMix64) -> Double {
        let u = Double.random(in: 1e-12..<1, using: &rng)
        let v = Double.random(in: 0..<1, using: &rng)
        return exp(sigma * (-2 * log(u)).squareRoot() * cos(2 * .pi * v))
    }

    @Test(arguments: [0.5, 0.67, 1, 1.5, 2.5])
    func followsAPodThatIsOff(factor: Double) {
        var rng = SplitMix64(seed: 3)
        var calibrator = PodCalibrator()
        for i in 0..<400 {
            let predicted = Double.random(in: 0.05...2, using: &rng)
            calibrator.observePrefill(
                predicted: Seconds(predicted),
                observed: Seconds(predicted * factor * noise(0.08, &rng)),
                newTokens: 1000,
                at: Instant(Double(i) * 0.1)
            )
            calibrator.observeDecode(
                predicted: Seconds(0.02),
                observed: Seconds(0.02 * factor * noise(0.08, &rng)),
                outputTokens: 100,
                at: Instant(Double(i) * 0.1)
            )
        }
        let learned = calibrator.calibration
        #expect(abs(learned.prefillScale / factor - 1) < 0.04)
        #expect(abs(learned.decodeScale / factor - 1) < 0.04)
        #expect(!learned.isDegraded)
    }

    @Test func nothingIsAppliedBeforeTwentySamples() {
        var calibrator = PodCalibrator()
        for i in 0..<PhaseCalibrator.leastSamples {
            #expect(calibrator.calibration.prefillScale == 1)
            calibrator.observePrefill(
                predicted: Seconds(1),
                observed: Seconds(2),
                newTokens: 512,
                at: Instant(Double(i))
            )
        }
        #expect(calibrator.calibration.prefillScale > 1.5)
    }

    @Test func marginsCoverNineOfTen() {
        var rng = SplitMix64(seed: 11)
        var calibrator = PodCalibrator()
        var covered = 0
        var scored = 0
        for i in 0..<6000 {
            let predicted = Double.random(in: 0.01...0.05, using: &rng)
            let observed = predicted * 1.2 * noise(0.25, &rng)
            let now = calibrator.calibration
            if i >= 500 {
                scored += 1
                if observed <= predicted * now.decodeScale * (1 + now.decodeMargin) { covered += 1 }
            }
            calibrator.observeDecode(
                predicted: Seconds(predicted),
                observed: Seconds(observed),
                outputTokens: 64,
                at: Instant(Double(i))
            )
        }
        let share = Double(covered) / Double(scored)
        #expect(share > 0.88 && share < 0.92)
    }

    @Test func flawedAndShortObservationsTeachNothing() {
        var calibrator = PodCalibrator()
        let fresh = calibrator
        let (y, x) = (Seconds(9), Seconds(1))
        for flaw in [ObservationFlaws.preempted, .cancelled, .cacheUnknown, .queued] {
            calibrator.observePrefill(predicted: x, observed: y, newTokens: 1000, flaws: flaw, at: .origin)
        }
        calibrator.observePrefill(predicted: x, observed: y, newTokens: 63, at: .origin)
        calibrator.observeDecode(predicted: x, observed: y, outputTokens: 15, at: .origin)
        calibrator.observeDecode(predicted: x, observed: y, outputTokens: 100, flaws: .cancelled, at: .origin)
        for bad in [0, -1, Double.nan, .infinity] {
            calibrator.observePrefill(predicted: Seconds(bad), observed: y, newTokens: 1000, at: .origin)
            calibrator.observeDecode(predicted: x, observed: Seconds(bad), outputTokens: 100, at: .origin)
        }
        calibrator.observeTTFTOffset(predicted: x, observed: Seconds(.nan))
        #expect(calibrator.ignored == 16)
        #expect(calibrator.calibration == fresh.calibration)
    }

    @Test func aPodThatLostTouchIsDegradedAndRecovers() {
        var calibrator = PodCalibrator()
        var now = 0.0
        func observe(_ factor: Double, times: Int) {
            for _ in 0..<times {
                now += 0.5
                calibrator.observePrefill(
                    predicted: Seconds(1),
                    observed: Seconds(factor),
                    newTokens: 999,
                    at: Instant(now)
                )
            }
        }
        observe(1, times: 100)
        #expect(!calibrator.calibration.isDegraded)
        observe(20, times: 60)
        #expect(calibrator.calibration.isDegraded)
        // The scale is clamped, whatever was seen.
        #expect(PhaseCalibrator.scaleRange.contains(calibrator.calibration.prefillScale))
        observe(1, times: 300)
        #expect(!calibrator.calibration.isDegraded)
        #expect(abs(calibrator.calibration.prefillScale - 1) < 0.05)
    }

    @Test("A pod with little traffic is marked and trusted again by its last twenty observations")
    func littleTrafficMarksAndRecovers() {
        var calibrator = PodCalibrator()
        var now = 0.0
        func observe(_ factor: Double, times: Int) {
            for _ in 0..<times {
                now += 10
                let seen = Seconds(factor * 0.02)
                calibrator.observeDecode(predicted: Seconds(0.02), observed: seen, outputTokens: 50, at: Instant(now))
            }
        }
        observe(1, times: 20)
        observe(30, times: 8)
        #expect(calibrator.calibration.isDegraded)
        observe(1, times: 60)
        #expect(!calibrator.calibration.isDegraded)
    }

    @Test("With shared factors in use, what is far from the plain profile alone is no outlier")
    func outliersAreThoseOfTheCorrectionInUse() {
        var calibrator = PodCalibrator()
        // Six times the profile is beyond what a scale may be; the factors know it.
        for i in 0..<100 {
            calibrator.observePrefill(
                predicted: Seconds(1),
                factored: Seconds(12),
                usesFactors: true,
                observed: Seconds(12),
                newTokens: 999,
                at: Instant(Double(i))
            )
        }
        #expect(!calibrator.calibration.isDegraded)
        #expect(calibrator.prefill.outliers > 0)
    }

    @Test("Counts at their limit, and a window of another process, stop nothing")
    func extremeStatesGoOn() throws {
        var calibrator = PodCalibrator()
        for i in 0..<30 {
            calibrator.observePrefill(
                predicted: Seconds(1),
                observed: Seconds(9),
                newTokens: 999,
                at: Instant(Double(i))
            )
        }
        var text = String(decoding: try JSONEncoder().encode(calibrator), as: UTF8.self)
        text.replace(/"(samples|outliers|ignored)":\d+/) { "\"\($0.output.1)\":\(Int.max)" }
        text.replace(/"flags":\[[^\]]*\]/, with: "\"flags\":[]")
        var loaded = try JSONDecoder().decode(PodCalibrator.self, from: Data(text.utf8))
        #expect(!loaded.calibration.isDegraded)
        for i in 0..<300 {
            loaded.observePrefill(predicted: Seconds(1), observed: Seconds(1), newTokens: 999, at: Instant(Double(i)))
            loaded.observePrefill(predicted: Seconds(1), observed: Seconds(1), newTokens: 1, at: Instant(Double(i)))
        }
        #expect(abs(loaded.calibration.prefillScale - 1) < 0.05)
    }

    @Test func aClockThatJumpsPoisonsNothing() {
        var calibrator = PodCalibrator()
        for (i, time) in [1e9, 0, -1e9, .nan, .infinity, 5, 4, 3].enumerated() {
            for k in 0..<40 {
                calibrator.observeDecode(
                    predicted: Seconds(0.02),
                    observed: Seconds(0.02),
                    outputTokens: 50,
                    at: Instant(time + Double(k * i))
                )
            }
        }
        #expect(calibrator.calibration.decodeScale == 1)
        #expect(!calibrator.calibration.isDegraded)
    }

    @Test func theOffsetIsAMedian() {
        var calibrator = PodCalibrator()
        for i in 0..<100 {
            let queueing = i % 7 == 0 ? 3.0 : 0
            calibrator.observeTTFTOffset(predicted: Seconds(0.5), observed: Seconds(0.53 + queueing))
            #expect(calibrator.calibration.ttftOffset == .zero || i >= OffsetMedian.leastSamples - 1)
        }
        #expect(abs(calibrator.calibration.ttftOffset.rawValue - 0.03) < 1e-9)
    }

    /// A pair's stream shows one TTFT; the histograms of the prefill pod show its prefill alone.
    @Test func histogramsTeachTheScaleAlone() {
        var calibrator = PodCalibrator()
        let margin = calibrator.calibration.prefillMargin
        for _ in 0..<30 {
            calibrator.observePrefills(predicted: Seconds(4), observed: Seconds(6), count: 10)
        }
        #expect(abs(calibrator.calibration.prefillScale - 1.5) < 0.01)
        #expect(calibrator.calibration.prefillMargin == margin)
        calibrator.observePrefills(predicted: Seconds(4), observed: Seconds(6), count: 0)
        calibrator.observePrefills(predicted: .zero, observed: Seconds(6), count: 3)
        #expect(abs(calibrator.calibration.prefillScale - 1.5) < 0.01)
    }
}
