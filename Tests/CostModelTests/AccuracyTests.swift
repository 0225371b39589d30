// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Foundation
import TestSupport
import Testing

/// The shipped profiles against data that may not enter the repository. The targets are those of docs/cost-model.md.
@Suite(.enabled(if: SharedData.isPresent, Comment(rawValue: SharedData.absent)))
struct AccuracyTests {
    @Test func fittedConfigurationsAndTheLadder() throws {
        let catalog = try ShippedProfiles.catalog.get()
        let times = MeasuredStepTimes.read(try ShippedProfiles.table("fits/composed_step_times.csv.gz"), catalog)
        var errors: [StepTime.Phase: ErrorStatistics] = [:]
        for fit in catalog.fits where fit.derivedFrom == nil {
            let profile = catalog.profile(
                accelerator: fit.accelerator,
                model: fit.model,
                tensorParallel: fit.tensorParallel,
                dtype: fit.dtype.rawValue
            )
            #expect(profile.source == .fitted)
            for time in try #require(times[fit.label]) {
                let estimate = time.estimate(profile)
                errors[time.phase, default: ErrorStatistics()].add(
                    predicted: estimate.mean.rawValue,
                    measured: time.duration.rawValue,
                    band: estimate.error
                )
            }
        }
        let prefill = try #require(errors[.prefill])
        let decode = try #require(errors[.decode])
        #expect(prefill.count == 26012 && prefill.median <= 0.045)
        #expect(decode.count == 18372 && decode.median <= 0.035)

        // Every rung below the fit, each forced by taking away what is above it.
        var covered = 0.0
        var cases = 0
        for row in LeaveOneOut.judge(catalog, times) {
            covered += row.errors.coverage * Double(row.errors.count)
            cases += row.errors.count
            guard row.removal == .configuration || row.configurations >= 20 else { continue }
            #expect(row.errors.median < 0.2, "\(row.removal) \(row.source) \(row.phase)")
            #expect(row.errors.coverage >= 0.8, "\(row.removal) \(row.source) \(row.phase)")
        }
        #expect(covered / Double(cases) >= 0.8)
        let one = LeaveOneOut.judge(catalog, times, removals: [.configuration])
        let share =
            one.reduce(0) { $0 + $1.errors.coverage * Double($1.errors.count) }
            / one.reduce(0) { $0 + Double($1.errors.count) }
        #expect(share >= 0.8)
    }

    @Test func theLoaderReproducesTheFitsExactly() throws {
        let catalog = try ShippedProfiles.catalog.get()
        let table = try ShippedProfiles.table("fits/fit_composed_steps.csv")
        #expect(table.count == 174)
        for row in 0..<table.count {
            let ranks = Int(try #require(table.number(row, "tp")))
            let profile = catalog.profile(
                accelerator: table.text(row, "accelerator"),
                model: table.text(row, "model"),
                tensorParallel: ranks,
                dtype: table.text(row, "dtype")
            )
            func stated(_ name: String, _ unit: Double) throws -> Double {
                try #require(table.number(row, name)) / unit
            }
            #expect(profile.prefill.knee == (try stated("pre_knee_tok", 1)))
            #expect(profile.prefill.base == (try stated("pre_c0_ms", 1e3)))
            #expect(profile.prefill.perTokenBelowKnee == (try stated("pre_c1lo_ms_per_ktok", 1e6)))
            #expect(profile.prefill.perTokenAboveKnee == (try stated("pre_c1hi_ms_per_ktok", 1e6)))
            #expect(profile.prefill.perPair == (try stated("pre_c2_ms_per_Mpair", 1e9)))
            #expect(profile.prefill.perContextToken == (try stated("pre_c3_ms_per_kctx", 1e6)))
            #expect(profile.decode.knee == (try stated("dec_knee_B", 1)))
            #expect(profile.decode.base == (try stated("dec_d0_ms", 1e3)))
            #expect(profile.decode.perSequenceBelowKnee == (try stated("dec_d1lo_ms_per_seq", 1e3)))
            #expect(profile.decode.perSequenceAboveKnee == (try stated("dec_d1hi_ms_per_seq", 1e3)))
            #expect(profile.decode.perKVToken == (try stated("dec_d2_ms_per_Mkvtok", 1e9)))
            #expect(profile.mixed.base == (try stated("uni_c0", 1e3)))
            #expect(profile.mixed.perSequence == (try stated("uni_d1", 1e3)))
            #expect(profile.mixed.perKVToken == (try stated("uni_d2", 1e9)))
        }
    }

    /// 256 end-to-end runs of vLLM; the shipped scales are fitted on them, so the cross-validated figure in docs is the
    /// honest one, and this one guards it.
    @Test func timePerOutputTokenOfRealServers() throws {
        let catalog = try ShippedProfiles.catalog.get()
        let table = try ShippedProfiles.table("measured/e2e_silicon_ttft_tpot.csv.gz")
        var errors = ErrorStatistics()
        for row in 0..<table.count where table.text(row, "backend") == "vllm" && table.text(row, "mode") == "agg" {
            guard let measured = table.number(row, "tpot_ms"), let ttft = table.number(row, "ttft_ms"), ttft < 10_000
            else { continue }
            let model = table.text(row, "model_path")
            guard ["Llama-3.1-70B", "gpt-oss-120b", "Qwen3-32B"].contains(where: model.contains) else { continue }
            let profile = catalog.profile(
                accelerator: table.text(row, "system"),
                model: model,
                tensorParallel: Int(try #require(table.number(row, "tp_size"))),
                dtype: table.text(row, "precision"),
                engine: "vllm"
            )
            let estimate = profile.closedLoopEstimate(
                batch: try #require(table.number(row, "concurrency") ?? table.number(row, "batch_size")),
                input: try #require(table.number(row, "isl")),
                output: try #require(table.number(row, "osl"))
            )
            errors.add(predicted: estimate.mean.milliseconds, measured: measured, band: estimate.error)
        }
        #expect(errors.count == 256)
        #expect(errors.mean <= 0.11)
        #expect(errors.coverage >= 0.8)
    }

    /// Uncalibrated by the ladder, and calibrated from a prior that is right, wrong, or drifts away.
    @Test(arguments: [(1.0, 1.0, 3.5), (1.5, 1.0, 3.5), (0.6, 1.0, 3.5), (1.0, 1.3, 4.5)])
    func stepsOfRealServers(bias: Double, drift: Double, target: Double) throws {
        let catalog = try ShippedProfiles.catalog.get()
        let experiments = try MeasuredSteps.experiments(try ShippedProfiles.table("measured/h100_vllm_steps.csv.gz"))
        #expect(experiments.count == 2)
        var total = 0.0
        var coverage = 0.0
        var scored = 0
        for experiment in experiments {
            var profile = catalog.profile(
                accelerator: "h100-sxm",
                model: experiment.model,
                tensorParallel: experiment.tensorParallel,
                dtype: "bfloat16"
            )
            profile.mixed = profile.mixed.multiplied(by: bias)
            var steps = experiment.steps
            for index in steps.indices.dropFirst(steps.count / 2) {
                steps[index].duration = steps[index].duration * drift
            }
            let replay = StepReplay(steps, profile: profile)
            if bias == 1, drift == 1 {
                #expect(replay.errorBefore <= 0.08)
                #expect(replay.bandCoverage >= 0.8)
            }
            total += replay.errorAfter * Double(replay.scored)
            coverage += replay.coverage * Double(replay.scored)
            scored += replay.scored
        }
        #expect(total / Double(scored) * 100 <= target)
        #expect((0.88...0.92).contains(coverage / Double(scored)), "\(coverage / Double(scored))")
    }

    /// Formula (6) against a measured table: nine sizes over 8 × 25 GB/s.
    @Test func transfersOfMooncake() throws {
        let catalog = try ShippedProfiles.catalog.get()
        let table = try ShippedProfiles.table("measured/mooncake_te_kv_transfer.csv")
        let connector = catalog.connector(named: "MooncakeConnector")
        let transfer = KVTransfer(
            fixedCost: connector.fixedCost,
            perToken: 1 / (200e9 * connector.efficiency),
            overlappedLayers: 1
        )
        var errors = ErrorStatistics()
        for row in 0..<table.count {
            let bytes = try #require(table.number(row, "kv_MB")) * 1e6
            let measured = try #require(table.number(row, "transfer_ms"))
            errors.add(
                predicted: transfer.exposed(tokens: bytes, prefill: .zero).milliseconds,
                measured: measured,
                band: 0.1
            )
        }
        #expect(errors.count == 9)
        #expect(errors.mean <= 0.05)
    }
}
