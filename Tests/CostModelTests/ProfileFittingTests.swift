// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@Suite struct ProfileFittingTests {
    private let truth = SmallCatalog.document.fits[0]
    private let overhead = 0.02

    private func samples(jitter: Double) -> ([ProfileFitting.PrefillSample], [ProfileFitting.DecodeSample]) {
        var rng = SplitMix64(seed: 31)
        func noisy(_ seconds: Double) -> Seconds {
            Seconds(seconds * Double.random(in: 1 - jitter...1 + jitter, using: &rng))
        }
        var prefills: [ProfileFitting.PrefillSample] = []
        for (n, p) in [
            (32, 0), (64, 0), (128, 0), (256, 0), (512, 0), (1024, 0), (2048, 0), (4096, 0), (8192, 0), (16384, 0),
            (256, 2048), (1024, 4096), (256, 8192), (2048, 8192), (512, 16384),
        ] {
            let seconds = truth.prefill.duration(newTokens: n, cachedTokens: p).rawValue + overhead
            prefills.append(
                ProfileFitting.PrefillSample(newTokens: Double(n), cachedTokens: Double(p), ttft: noisy(seconds))
            )
        }
        var decodes: [ProfileFitting.DecodeSample] = []
        for batch in [1.0, 2, 4, 8, 16, 32, 64, 128, 256] {
            for context in [128.0, 2048, 8192] {
                let seconds = truth.decode.step(batch: batch, kvTokens: batch * context).rawValue
                decodes.append(
                    ProfileFitting.DecodeSample(batch: batch, kvTokens: batch * context, step: noisy(seconds))
                )
            }
        }
        return (prefills, decodes)
    }

    @Test(arguments: [(0.0, 0.02), (0.05, 0.1)])
    func recoversWhatItWasMadeFrom(jitter: Double, tolerance: Double) throws {
        let (prefills, decodes) = samples(jitter: jitter)
        let fit = try ProfileFitting.fit(prefills: prefills, decodes: decodes)
        #expect(abs(fit.decode.base / truth.decode.base - 1) < tolerance)
        #expect(abs(fit.decode.perKVToken / truth.decode.perKVToken - 1) < tolerance)
        #expect(abs(fit.prefill.perTokenAboveKnee / truth.prefill.perTokenAboveKnee - 1) < 2 * tolerance)
        #expect(abs(fit.ttftOverhead.rawValue - overhead) < 0.1 * overhead + tolerance * 0.03)
        #expect(fit.decodeError <= 0.01 + jitter && fit.prefillError <= 0.01 + jitter)
        // Predictions between the measured points.
        for (n, p) in [(700, 0), (3000, 1000), (12_000, 0)] {
            let predicted = (fit.prefill.duration(newTokens: n, cachedTokens: p) + fit.ttftOverhead).rawValue
            let expected = truth.prefill.duration(newTokens: n, cachedTokens: p).rawValue + overhead
            #expect(abs(predicted / expected - 1) < tolerance, "\(n) \(p)")
        }
    }

    @Test func tooFewOrSenselessSamplesAreRefused() {
        let (prefills, decodes) = samples(jitter: 0)
        #expect(throws: ProfileFitting.Failure.tooFewSamples(prefill: 3, decode: 27)) {
            try ProfileFitting.fit(prefills: Array(prefills.prefix(3)), decodes: decodes)
        }
        let senseless = decodes.map { ProfileFitting.DecodeSample(batch: $0.batch, kvTokens: 0, step: Seconds(.nan)) }
        #expect(throws: ProfileFitting.Failure.self) { try ProfileFitting.fit(prefills: prefills, decodes: senseless) }
    }

    /// A fit of a whole server knows its own overhead, and no correction for the engine comes on top.
    @Test func anEndToEndFitIsNotCorrected() throws {
        var own = truth
        own.isEndToEnd = true
        own.ttftOverhead = Seconds(milliseconds: 33)
        let catalog = ProfileCatalog(documents: [SmallCatalog.document, ProfileDocument(fits: [own])])
        let profile = catalog.profile(
            accelerator: "h100-sxm",
            model: "llama-3.1-70b",
            tensorParallel: 4,
            dtype: "fp8",
            engine: "vllm"
        )
        #expect(profile.decode == truth.decode)
        #expect(profile.ttftOverhead == Seconds(milliseconds: 33))
        #expect(profile.decodeError < 0.06)
    }
}
