// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@Suite struct FallbackLadderTests {
    let catalog = SmallCatalog.catalog

    private func resolve(_ accelerator: String, _ model: String, tp: Int, _ dtype: String?, engine: String? = nil)
        -> ProfileResolution
    {
        catalog.resolve(
            ProfileQuery(accelerator: accelerator, model: model, tensorParallel: tp, dtype: dtype, engine: engine)
        )
    }

    @Test func everyRungIsNamedAndWiderThanTheOneAbove() {
        let rungs = [
            resolve("h100-sxm", "llama-3.1-70b", tp: 4, "fp8"),
            resolve("h100-sxm", "llama-3.1-70b", tp: 2, "fp8"),
            resolve("h100-sxm", "llama-3.1-70b", tp: 4, "fp4"),
            resolve("h100-sxm", "qwen3-32b", tp: 4, "fp8"),
            resolve("a100-sxm", "qwen3-32b", tp: 2, "bf16"),
            resolve("mystery", "who-knows", tp: 1, nil),
        ]
        #expect(
            rungs.map(\.profile.source) == [
                .fitted, .otherTensorParallel, .otherDtype, .likeModel, .roofline, .unknown,
            ]
        )
        for (above, below) in zip(rungs, rungs.dropFirst()) {
            #expect(above.profile.prefillError < below.profile.prefillError)
            #expect(above.profile.decodeError < below.profile.decodeError)
        }
    }

    @Test func anExactFitIsReproduced() {
        let fit = SmallCatalog.document.fits[0]
        let profile = resolve("H100_SXM", "meta-llama/Llama-3.1-70B-Instruct", tp: 4, "fp8").profile
        #expect(profile.prefill == fit.prefill)
        #expect(profile.decode == fit.decode)
        #expect(profile.mixed == fit.mixed)
        #expect(profile.networkBytesPerSecond == 4 * 50e9 * 0.7)
        #expect(profile.dollarsPerSecond == 4 * 3.99 / 3600)
    }

    /// A user's own fit of what no profile describes: an exact fit needs no facts.
    @Test func anExactFitOfTheUndescribedIsFitted() {
        let own = [
            SmallCatalog.fit("newchip-9", "acme-chat", tp: 1, .fp8, base: 0.02),
            SmallCatalog.fit("newchip-9", "acme-30b", tp: 2, .fp8, base: 0.02),
            SmallCatalog.fit("b300-sxm", "llama-3.1-70b", tp: 4, .fp8, base: 0.005),
        ]
        let catalog = ProfileCatalog(documents: [SmallCatalog.document, ProfileDocument(fits: own)])
        func resolve(_ accelerator: String, _ model: String, tp: Int) -> PodProfile {
            catalog.profile(accelerator: accelerator, model: model, tensorParallel: tp, dtype: "fp8", engine: "vllm")
        }
        let measured = catalog.profile(
            accelerator: "h100-sxm",
            model: "llama-3.1-70b",
            tensorParallel: 4,
            dtype: "fp8"
        )
        for (accelerator, model, tp) in [("newchip-9", "acme-chat", 1), ("b300-sxm", "llama-3.1-70b", 4)] {
            let profile = resolve(accelerator, model, tp: tp)
            #expect(profile.source == .fitted)
            #expect(profile.prefillError == measured.prefillError && profile.decodeError == measured.decodeError)
        }
        // Another parallelism stands on facts that nobody has stated; where the name says how large the model is, the
        // fit is carried over by that.
        let other = resolve("newchip-9", "acme-chat", tp: 2)
        #expect(other.source == .unknown && other.decodeError > 0.6)
        let sized = resolve("newchip-9", "acme-30b", tp: 8)
        #expect(sized.source == .unknown)
        #expect(sized.decode.perKVToken < 0.5 * own[1].decode.perKVToken)
    }

    @Test func aFitOfAnotherEngineIsSaidToBe() {
        let own = resolve("h100-sxm", "llama-3.1-70b", tp: 4, "fp8", engine: "vllm").profile
        let plain = resolve("h100-sxm", "llama-3.1-70b", tp: 4, "fp8").profile
        #expect(own.source == .fitted && plain.source == .fitted && plain.decodeError == own.decodeError)
        for engine in ["trtllm", "sglang", "SGLang"] {
            let other = resolve("h100-sxm", "llama-3.1-70b", tp: 4, "fp8", engine: engine).profile
            #expect(other.source == .otherEngine)
            #expect(other.decodeError > 0.35 && other.prefillError > 0.35)
            // On another rung as well, which keeps its name.
            let below = resolve("h100-sxm", "llama-3.1-70b", tp: 2, "fp8", engine: engine).profile
            #expect(below.source == .otherTensorParallel && below.decodeError > other.decodeError)
        }
        // A fit of the very engine at another parallelism is nearer than another engine's at this one.
        var fit = SmallCatalog.fit("h100-sxm", "llama-3.1-70b", tp: 2, .fp8, base: 0.02)
        fit.engine = "sglang"
        let catalog = ProfileCatalog(documents: [SmallCatalog.document, ProfileDocument(fits: [fit])])
        let query = ProfileQuery(
            accelerator: "h100-sxm",
            model: "llama-3.1-70b",
            tensorParallel: 4,
            dtype: "fp8",
            engine: "sglang"
        )
        #expect(catalog.resolve(query).profile.source == .otherTensorParallel)
    }

    /// No fit has latent attention, and a mixture's experts are its own: the roofline says so.
    @Test func mixturesAndLatentAttentionAreLessSure() {
        let dense = resolve("a100-sxm", "qwen3-32b", tp: 8, "bf16").profile
        let latent = resolve("a100-sxm", "deepseek-v3", tp: 8, "bf16").profile
        let mixture = resolve("a100-sxm", "gpt-oss-120b", tp: 8, nil).profile
        #expect(dense.source == .roofline && latent.source == .roofline && mixture.source == .roofline)
        #expect(dense.decodeError < mixture.decodeError && mixture.decodeError < latent.decodeError)
    }

    @Test func anotherKVDtypeWidensALittle() {
        func error(_ kv: String?) -> Double {
            catalog.profile(
                accelerator: "h100-sxm",
                model: "llama-3.1-70b",
                tensorParallel: 4,
                dtype: "fp8",
                kvDtype: kv
            ).decodeError
        }
        #expect(error("fp8") > error(nil) && error("fp8") < error(nil) + 0.1)
        #expect(error("auto") == error(nil))
    }

    /// PCIe between peers: all-reduces at the share that the measured accelerator with the most similar link reaches.
    @Test func allReducesFollowTheLinkOfWhatNobodyMeasured() throws {
        func accelerator(_ name: String, link: Double?) -> Accelerator {
            var entry = SmallCatalog.h100
            entry.name = name
            entry.aliases = []
            entry.scaleUpBandwidth = link
            return entry
        }
        let document = ProfileDocument(accelerators: [
            accelerator("linked", link: 450e9), accelerator("plain", link: 32e9), accelerator("silent", link: nil),
        ])
        let catalog = ProfileCatalog(documents: try ShippedProfiles.facts() + [document])
        func prefill(_ name: String, tp: Int) -> PhaseEstimate {
            catalog.profile(accelerator: name, model: "llama-3.1-70b", tensorParallel: tp, dtype: "fp8")
                .prefillEstimate(newTokens: 8192, cachedTokens: 0)
        }
        let (linked, plain) = (prefill("linked", tp: 8), prefill("plain", tp: 8))
        // 8192 tokens, 160 all-reduces of 8192 values of two bytes, moved 1.75 times, at some 2 GB/s.
        #expect(plain.mean.rawValue - linked.mean.rawValue > 5)
        #expect(prefill("silent", tp: 8).mean == plain.mean)
        #expect(prefill("plain", tp: 1).mean == prefill("linked", tp: 1).mean)
        #expect(linked.error > prefill("linked", tp: 1).error)
    }

    @Test func theEngineCorrectsWhatTheKernelsSay() {
        let fit = SmallCatalog.document.fits[0]
        let profile = resolve("h100-sxm", "llama-3.1-70b", tp: 4, "fp8", engine: "vllm").profile
        #expect(profile.decode.base == fit.decode.base * 1.1)
        #expect(profile.prefill.base == fit.prefill.base)
        #expect(profile.ttftOverhead == Seconds(milliseconds: 9))
    }

    @Test func aUsersCorrectionReplacesWhateverItsSpelling() {
        let own = ServingCorrection(
            accelerator: "NVIDIA-H100-80GB-HBM3",
            engine: "vLLM",
            decodeScale: 2,
            ttftOverhead: Seconds(milliseconds: 5)
        )
        let catalog = ProfileCatalog(documents: [SmallCatalog.document, ProfileDocument(corrections: [own])])
        let profile = catalog.profile(
            accelerator: "h100-sxm",
            model: "llama-3.1-70b",
            tensorParallel: 4,
            dtype: "fp8",
            engine: "vllm"
        )
        #expect(profile.decode.base == SmallCatalog.document.fits[0].decode.base * 2)
        #expect(catalog.corrections.count == 1)
    }

    @Test func moreRanksAreFasterAndFewerSlower() {
        let two = resolve("h100-sxm", "llama-3.1-70b", tp: 2, "fp8").profile
        let four = resolve("h100-sxm", "llama-3.1-70b", tp: 4, "fp8").profile
        let ratio =
            two.prefill.duration(newTokens: 4096, cachedTokens: 0).rawValue
            / four.prefill.duration(newTokens: 4096, cachedTokens: 0).rawValue
        #expect(ratio > 1.2 && ratio < 2.2)
    }

    @Test func gptOSSLabelledBfloat16IsItsNativeDeployment() {
        for dtype in ["bfloat16", "mxfp4", "fp4", nil] {
            #expect(resolve("h100", "openai/gpt-oss-120b", tp: 1, dtype).profile.source == .fitted)
        }
    }

    @Test func latentAttentionIsHeldByEveryRank() {
        let facts = SmallCatalog.deepSeek
        #expect(facts.kvBytesPerToken(dtype: .bfloat16) == 70272)
        #expect(facts.kvCopies(tensorParallel: 8) == 8)
        #expect(SmallCatalog.llama70.kvCopies(tensorParallel: 8) == 1)
        #expect(SmallCatalog.llama70.kvCopies(tensorParallel: 16) == 2)
    }

    @Test func capacityIsWhatTheWeightsLeave() {
        let profile = resolve("h100-sxm", "llama-3.1-70b", tp: 4, "fp8").profile
        let expected = ((0.9 * 80e9 - 3.5e9) * 4 - 70.6e9) / 327_680
        #expect(abs(Double(profile.kvCapacityTokens) - expected) < 1)
        // 70 billion bfloat16 weights do not fit one H100.
        let impossible = resolve("h100-sxm", "llama-3.1-70b", tp: 1, "bf16").profile
        #expect(impossible.kvCapacityTokens == KVCapacity.leastTokens)
    }

    /// Whatever is asked, the answer is finite, positive and grows with the work.
    @Test func anyQueryGivesASoundProfile() {
        var rng = SplitMix64(seed: 17)
        let names = [
            "h100-sxm", "a100", "b300-sxm", "l4", "", "💥", "tpu-v6e", "llama-3.1-70b", "gpt-oss-120b", "deepseek-v3",
            "foo-3b", "foo-900000b", "mix-8x7b", "qwen3-32b", "*", "-",
        ]
        let dtypes: [String?] = [nil, "", "fp8", "bf16", "int4", "fp4", "wat"]
        for _ in 0..<3000 {
            func any<T>(_ values: [T]) -> T { values[Int.random(in: 0..<values.count, using: &rng)] }
            let query = ProfileQuery(
                accelerator: any(names),
                model: any(names),
                tensorParallel: any([-1, 0, 1, 2, 3, 8, 72, .max, .min]),
                dtype: any(dtypes),
                engine: any([nil, "vllm", "?"]),
                kvDtype: any([nil, "auto", "fp8", "?"]),
                pricePerHour: any([nil, 0, 4, -1]),
                networkGbps: any([nil, 0, 400])
            )
            let profile = catalog.resolve(query).profile
            var last = 0.0
            for n in [0, 1, 64, 4096, 1_000_000] {
                let seconds = profile.prefill.duration(newTokens: n, cachedTokens: n).rawValue
                #expect(seconds.isFinite && seconds > 0 && seconds >= last, "\(query)")
                last = seconds
            }
            let step = profile.decode.step(batch: 8, kvTokens: 10_000).rawValue
            #expect(step.isFinite && step > 0, "\(query)")
            #expect(profile.kvBytesPerToken > 0 && profile.kvCapacityTokens >= KVCapacity.leastTokens)
            #expect(profile.prefillError > 0 && profile.prefillError < 1)
            #expect(profile.dollarsPerSecond >= 0 && profile.networkBytesPerSecond > 0 && profile.layers > 0)
        }
    }
}
