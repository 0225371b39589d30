// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel

/// `epp-pd calibrate`: replays measured engine steps through the online calibration.
struct CalibrateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "calibrate",
        abstract: "Replay measured engine steps: how good are predictions before and after calibration?",
        discussion: """
            Columns: experiment_id,model,tp,step_ms,prefill_tokens,decode_tokens,kv_tokens; prefill_tokens is one chunk \
            without prefix. Steps are taken in the order of the file, each predicted before it is learned from; every \
            experiment starts anew, and its last 80 % are scored.
            Example: epp-pd calibrate --steps h100_vllm_steps.csv.gz --accelerator h100-sxm --json
            """
    )

    @OptionGroup var profiles: ProfileOptions
    @Option(help: "The steps: CSV, plain or gzip.")
    var steps: String
    @Option(help: "Accelerator that they were measured on.")
    var accelerator: String
    @Option(help: "Number format of the weights. Default: the model's native one.")
    var dtype: String?
    @Option(help: "Engine whose end-to-end correction applies. Default: the kernels alone.")
    var engine: String?
    @Flag(help: "One JSON object on one line.")
    var json = false

    struct Report: Encodable {
        struct Experiment: Encodable {
            var experiment: String
            var model: String
            var steps: Int
            var scored: Int
            var before: Double
            var after: Double
            var coverage: Double
            var bandCoverage: Double
            var source: String

            enum CodingKeys: String, CodingKey {
                case experiment, model, steps, scored
                case before = "mape_before"
                case after = "mape_after"
                case coverage = "p90_coverage"
                case bandCoverage = "band_coverage"
                case source
            }
        }

        var steps: Int
        var scored: Int
        var before: Double
        var after: Double
        var coverage: Double
        var experiments: [Experiment]

        enum CodingKeys: String, CodingKey {
            case steps, scored
            case before = "mape_before"
            case after = "mape_after"
            case coverage = "p90_coverage"
            case experiments
        }
    }

    func run() throws {
        if let dtype, !WeightDtype.isAccepted(dtype) {
            throw ValidationError("--dtype must be bfloat16, fp8, fp4 or int4, not \(dtype)")
        }
        let catalog = try profiles.catalog()
        let measured: [MeasuredSteps.Experiment]
        do {
            measured = try MeasuredSteps.experiments(CSVTable(bytes: try DataFile.bytes(path: steps)))
        } catch let failure as MeasuredSteps.Failure {
            Console.error("\(steps):\(failure.line): \(failure.description)")
            throw ExitCode(1)
        } catch {
            Console.error("\(steps): \(error)")
            throw ExitCode(2)
        }
        guard measured.contains(where: { !$0.steps.isEmpty }) else {
            Console.error("\(steps): holds no steps: there is nothing to calibrate on")
            throw ExitCode(1)
        }
        let report = summary(measured.map { replay($0, catalog) })
        guard !json else { return print(try JSONLine.encode(report)) }
        show(report)
    }

    private func replay(_ experiment: MeasuredSteps.Experiment, _ catalog: ProfileCatalog) -> Report.Experiment {
        let pod = catalog.resolve(
            ProfileQuery(
                accelerator: accelerator,
                model: experiment.model,
                tensorParallel: experiment.tensorParallel,
                dtype: dtype,
                engine: engine
            )
        )
        let replay = StepReplay(experiment.steps, profile: pod.profile)
        return Report.Experiment(
            experiment: experiment.name,
            model: experiment.model,
            steps: experiment.steps.count,
            scored: replay.scored,
            before: replay.errorBefore * 100,
            after: replay.errorAfter * 100,
            coverage: replay.coverage,
            bandCoverage: replay.bandCoverage,
            source: "\(pod.profile.source.rawValue) \(pod.origin)"
        )
    }

    private func summary(_ experiments: [Report.Experiment]) -> Report {
        let scored = experiments.reduce(0) { $0 + $1.scored }
        func mean(_ value: (Report.Experiment) -> Double) -> Double {
            scored > 0 ? experiments.reduce(0) { $0 + value($1) * Double($1.scored) } / Double(scored) : 0
        }
        return Report(
            steps: experiments.reduce(0) { $0 + $1.steps },
            scored: scored,
            before: mean(\.before),
            after: mean(\.after),
            coverage: mean(\.coverage),
            experiments: experiments
        )
    }

    private func show(_ report: Report) {
        var table = TextTable([
            ("experiment", .left), ("scored", .right), ("before %", .right), ("after %", .right), ("p90 cover", .right),
            ("profile", .left),
        ])
        for row in report.experiments {
            table.add([
                row.experiment, "\(row.scored)", Numbers.fixed(row.before, 2), Numbers.fixed(row.after, 2),
                Numbers.fixed(row.coverage, 3), row.source,
            ])
        }
        table.add([
            "all", "\(report.scored)", Numbers.fixed(report.before, 2), Numbers.fixed(report.after, 2),
            Numbers.fixed(report.coverage, 3), "",
        ])
        print(table.rendered())
    }
}
