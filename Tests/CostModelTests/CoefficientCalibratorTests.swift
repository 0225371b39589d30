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

    /// A calibrator beside the scales of one engine, as a step calibrator keeps them.
    private func calibrated(_ observations: [(PredictionTerms, Double)]) -> StepCalibrator {
        var calibrator = StepCalibrator()
        for (x, y) in observations { calibrator.observe(terms: x, observed: y) }
        return calibrator
    }

    /// A profile whose KV reads are twice too cheap: a scale cannot say so, the factors can.
    @Test func findsWhichTermIsWrong() {
        var rng = SplitMix64(seed: 5)
        let observations = (0..<1500).map { _ in
            let x = terms(&rng)
            let truth = x.base + x.tokens + x.pairs + 2 * x.kv
            return (x, truth * Double.random(in: 0.97...1.03, using: &rng))
        }
        let calibrator = calibrated(observations).coefficients
        #expect(calibrator.isPublished)
        #expect(abs(calibrator.factors.kv / 2 - 1) < 0.1)
        #expect(abs(calibrator.factors.base - 1) < 0.1)
        #expect(calibrator.error < 0.04)
    }

    /// With batch and context always alike the terms cannot be told apart: they keep the profile's ratio.
    @Test func collinearTermsKeepTheirRatio() {
        let x = step.terms(newTokens: 0, pairs: 0, chunkContext: 0, batch: 32, kvTokens: 64_000)
        let calibrator = calibrated((0..<2000).map { _ in (x, x.sum * 1.4) })
        #expect(abs(calibrator.predict(x) / (x.sum * 1.4) - 1) < 0.02)
        let factors = calibrator.coefficients.factors
        #expect(abs(factors.kv / factors.base - 1) < 0.15)
    }

    @Test func neverPoisoned() {
        var rng = SplitMix64(seed: 7)
        var calibrator = StepCalibrator()
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

    /// A pod half as fast again as its profile keeps its scale beside factors that say which term is wrong; neither makes
    /// any coefficient faster than the hardware can be.
    @Test func factorsAndAPodsOwnScaleTogether() {
        var rng = SplitMix64(seed: 11)
        let profile = SmallCatalog.catalog.profile(
            accelerator: "h100-sxm",
            model: "llama-3.1-70b",
            tensorParallel: 4,
            dtype: "fp8"
        )
        var shared = ConfigurationCalibrator()
        var pods = [PodCalibrator(profile: profile), PodCalibrator(profile: profile)]
        func truth(_ x: PredictionTerms, _ pod: Int) -> Double { (x.sum + 1.5 * x.pairs) * (pod == 0 ? 1 : 1.4) }
        for i in 0..<1200 {
            let pod = i % 2
            let n = Int.random(in: 200...30_000, using: &rng)
            let x = profile.prefill.terms(newTokens: Double(n), cachedTokens: 0)
            let seen = truth(x, pod) * Double.random(in: 0.98...1.02, using: &rng)
            let (scale, rest) = (pods[pod].prefill.appliedScale, pods[pod].prefillRest.appliedScale)
            pods[pod].observePrefill(
                predicted: Seconds(x.sum),
                factored: Seconds(shared.prefill.factors.dot(x)),
                observed: Seconds(seen),
                newTokens: n,
                at: Instant(Double(i))
            )
            _ = shared.observePrefill(terms: x, observed: Seconds(seen), scale: scale, residual: rest)
        }
        #expect(shared.prefillFactors != nil && shared.decodeFactors == nil)
        for pod in 0...1 {
            let (corrected, calibration) = shared.apply(pods[pod], to: profile)
            #expect(corrected.decode == profile.decode)
            for n in [500, 4000, 25_000] {
                let x = profile.prefill.terms(newTokens: Double(n), cachedTokens: 0)
                let predicted = corrected.prefill.duration(newTokens: n, cachedTokens: 0).rawValue
                #expect(abs(calibration.prefillScale * predicted / truth(x, pod) - 1) < 0.05, "\(pod) \(n)")
            }
        }
        var fast = ConfigurationCalibrator()
        for _ in 0..<600 {
            let x = terms(&rng)
            _ = fast.observeDecode(terms: x, observed: Seconds(0.05 * x.sum + x.kv * 0.1), scale: 1, residual: 1)
        }
        let (floor, _) = fast.apply(PodCalibrator(profile: profile), to: profile)
        #expect(floor.decode.base >= 0.299 * profile.decode.base)
        #expect(floor.decode.perKVToken >= 0.299 * profile.decode.perKVToken)
    }

    @Test func stateSurvivesAndNonsenseIsRefused() throws {
        var rng = SplitMix64(seed: 9)
        var state = CalibrationState()
        var shared = ConfigurationCalibrator()
        var pod = PodCalibrator()
        for i in 0..<200 {
            let x = terms(&rng)
            _ = shared.observePrefill(terms: x, observed: Seconds(x.sum + x.kv), scale: 1.3, residual: 1)
            pod.observePrefill(
                predicted: Seconds(x.sum),
                observed: Seconds(x.sum * 1.3),
                newTokens: 999,
                at: Instant(Double(i))
            )
        }
        state.pods["p0"] = pod
        #expect(shared.prefillFactors != nil)
        state.shared["h100-sxm/llama-3.1-70b/tp4/fp8/vllm"] = shared
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let data = try encoder.encode(state)
        let restored = try JSONDecoder().decode(CalibrationState.self, from: data)
        #expect(restored.pods["p0"]?.prefill == pod.prefill && restored.version == CalibrationState.currentVersion)
        // Factors in use are those last told to the pods: within a step of those learned.
        let (before, after) = (shared.prefillFactors?.kv ?? 0, restored.shared.values.first?.prefillFactors?.kv ?? 0)
        #expect(abs(after / before - 1) < 0.02)
        #expect(restored.shared.values.first?.prefill == shared.prefill)

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
