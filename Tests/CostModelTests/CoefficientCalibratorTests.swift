// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation
import TestSupport
import Testing

@Suite struct CoefficientCalibratorTests {
    private let step = SmallCatalog.document.fits[0].mixed

    private func terms(_ rng: inout SplitMix64) -> PredictionTerms {
        let n = Bool.random(using: &rng) ? Double.random(in: 64...2048, using: &rng) : 0
        return step.terms(
            newTokens: n,
            pairs: n * n / 2,
            chunkContext: n,
            batch: Double.random(in: 1...64, using: &rng),
            kvTokens: Double.random(in: 1000...200_000, using: &rng)
        )
    }

    @Test func termsAddUpToThePrediction() {
        let profile = SmallCatalog.catalog.profile(
            accelerator: "h100-sxm",
            model: "llama-3.1-70b",
            tensorParallel: 4,
            dtype: "fp8"
        )
        let prefill = profile.prefill.terms(newTokens: 3000, cachedTokens: 500).sum
        #expect(abs(prefill - profile.prefill.duration(newTokens: 3000, cachedTokens: 500).rawValue) < 1e-12)
        let decode = profile.decode.terms(batch: 200, kvTokens: 90_000).sum
        #expect(abs(decode - profile.decode.step(batch: 200, kvTokens: 90_000).rawValue) < 1e-12)
        let mixed = step.terms(newTokens: 512, pairs: 512 * 256, chunkContext: 512, batch: 9, kvTokens: 4000).sum
        let same = step.step(newTokens: 512, pairs: 512 * 256, chunkContext: 512, batch: 9, kvTokens: 4000).rawValue
        #expect(abs(mixed - same) < 1e-12)
    }

    /// A profile whose KV reads are twice too cheap: a scale cannot say so, the factors can.
    @Test func findsWhichTermIsWrong() {
        var rng = SplitMix64(seed: 5)
        var calibrator = CoefficientCalibrator()
        for _ in 0..<1500 {
            let x = terms(&rng)
            let truth = x.base + x.tokens + x.pairs + 2 * x.kv
            calibrator.observe(terms: x, observed: truth * Double.random(in: 0.97...1.03, using: &rng))
        }
        #expect(calibrator.isPublished)
        #expect(abs(calibrator.factors.kv / 2 - 1) < 0.1)
        #expect(abs(calibrator.factors.base - 1) < 0.1)
        #expect(calibrator.error < 0.04)
    }

    /// With batch and context always alike the terms cannot be told apart: they keep the profile's ratio.
    @Test func collinearTermsKeepTheirRatio() {
        let x = step.terms(newTokens: 0, pairs: 0, chunkContext: 0, batch: 32, kvTokens: 64_000)
        var calibrator = CoefficientCalibrator()
        for _ in 0..<2000 { calibrator.observe(terms: x, observed: x.sum * 1.4) }
        #expect(abs(calibrator.predict(x) / (x.sum * 1.4) - 1) < 0.02)
        #expect(abs(calibrator.factors.kv / calibrator.factors.base - 1) < 0.15)
    }

    @Test func neverPoisoned() {
        var rng = SplitMix64(seed: 7)
        var calibrator = CoefficientCalibrator()
        for i in 0..<4000 {
            let x = terms(&rng)
            let odd = [0, -1, .nan, .infinity, 1e300, 1e-300, x.sum]
            calibrator.observe(terms: x, observed: odd[i % odd.count])
            let y = calibrator.predict(x)
            #expect(y.isFinite && y > 0)
        }
        calibrator.observe(terms: PredictionTerms(base: .nan, tokens: 0, pairs: 0, kv: 0), observed: 1)
        #expect(calibrator.predict(terms(&rng)).isFinite)
    }

    @Test func stateSurvivesAndNonsenseIsRefused() throws {
        var rng = SplitMix64(seed: 9)
        var state = CalibrationState()
        var shared = CoefficientCalibrator()
        var pod = PodCalibrator()
        for i in 0..<200 {
            let x = terms(&rng)
            shared.observe(terms: x, observed: x.sum * 1.3)
            pod.observePrefill(
                predicted: Seconds(x.sum),
                observed: Seconds(x.sum * 1.3),
                newTokens: 999,
                at: Instant(Double(i))
            )
        }
        state.pods["p0"] = pod
        state.shared["h100-sxm/llama-3.1-70b/prefill"] = shared
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let data = try encoder.encode(state)
        #expect(try JSONDecoder().decode(CalibrationState.self, from: data) == state)

        let text = String(decoding: data, as: UTF8.self)
        for (old, new) in [("\"scale\":1.", "\"scale\":-1."), ("\"scale\":1.", "\"scale\":99.")] {
            let broken = text.replacingOccurrences(of: old, with: new)
            #expect(broken != text)
            #expect(throws: DecodingError.self) {
                try JSONDecoder().decode(CalibrationState.self, from: Data(broken.utf8))
            }
        }
    }
}
