// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel
import Foundation

/// `epp-pd profiles judge`: profiles against known and measured times.
struct ProfilesJudge: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "judge",
        abstract: "How good are the profiles? Against known step times, real servers and real steps.",
        discussion: """
            Reads fits/composed_step_times.csv.gz, measured/e2e_silicon_ttft_tpot.csv.gz and \
            measured/h100_vllm_steps.csv.gz under --data; prints errors of the fits, of every rung of the fallback \
            ladder (by taking fits away), of time per output token, and the nanoseconds of one prediction. --plots \
            writes predicted against measured per accelerator as SVG.
            """
    )

    @OptionGroup var profiles: ProfileOptions
    @Option(help: "The folder of data.")
    var data: String
    @Option(help: "Folder for plots.")
    var plots: String?

    func run() throws {
        let catalog = try profiles.catalog()
        let times: [String: [StepTime]]
        let servers: [ServerRun]
        do {
            times = MeasuredStepTimes.read(try table("fits/composed_step_times.csv.gz"), catalog)
            servers = ServerRun.read(try table("measured/e2e_silicon_ttft_tpot.csv.gz"), catalog)
        } catch {
            Console.error("\(data): \(error)")
            throw ExitCode(2)
        }
        showFits(catalog, times)
        showLadder(catalog, times)
        showServers(servers)
        PredictionSpeed.show(catalog)
        if let plots { try draw(catalog, times, servers, into: plots) }
    }

    private func table(_ path: String) throws -> CSVTable {
        CSVTable(bytes: try DataFile.bytes(path: "\(data)/\(path)"))
    }

    private func percent(_ value: Double) -> String { Numbers.fixed(value * 100, 1) }

    private func profile(_ fit: FittedConfiguration, _ catalog: ProfileCatalog) -> PodProfile {
        catalog.profile(
            accelerator: fit.accelerator,
            model: fit.model,
            tensorParallel: fit.tensorParallel,
            dtype: fit.dtype.rawValue
        )
    }

    private func accelerators(_ catalog: ProfileCatalog) -> [String] {
        Set(catalog.fits.filter { $0.derivedFrom == nil }.map(\.accelerator)).sorted()
    }

    private func showFits(_ catalog: ProfileCatalog, _ times: [String: [StepTime]]) {
        var shown = TextTable([
            ("accelerator", .left), ("phase", .left), ("points", .right), ("median %", .right), ("mean %", .right),
            ("80 % below", .right), ("in band %", .right),
        ])
        for accelerator in accelerators(catalog) + ["all"] {
            for phase in StepTime.Phase.allCases {
                var errors = ErrorStatistics()
                for fit in catalog.fits where fit.accelerator == accelerator || accelerator == "all" {
                    let profile = profile(fit, catalog)
                    for time in times[fit.label] ?? [] where time.phase == phase {
                        let estimate = time.estimate(profile)
                        errors.add(
                            predicted: estimate.mean.rawValue,
                            measured: time.duration.rawValue,
                            band: estimate.error
                        )
                    }
                }
                shown.add([
                    accelerator, phase.rawValue, "\(errors.count)", percent(errors.median), percent(errors.mean),
                    percent(errors.quantile(0.8)), percent(errors.coverage),
                ])
            }
        }
        print("Fitted configurations\n\(shown.rendered(indent: 2))\n")
    }

    private func showLadder(_ catalog: ProfileCatalog, _ times: [String: [StepTime]]) {
        var shown = TextTable([
            ("taken away", .left), ("rung", .left), ("phase", .left), ("configurations", .right), ("median %", .right),
            ("mean %", .right), ("80 % below", .right), ("in band %", .right),
        ])
        for row in LeaveOneOut.judge(catalog, times) {
            shown.add([
                row.removal.rawValue, row.source.rawValue, row.phase.rawValue, "\(row.configurations)",
                percent(row.errors.median), percent(row.errors.mean), percent(row.errors.quantile(0.8)),
                percent(row.errors.coverage),
            ])
        }
        print("Fallback ladder\n\(shown.rendered(indent: 2))\n")
    }

    private func showServers(_ runs: [ServerRun]) {
        var shown = TextTable([
            ("accelerator", .left), ("model", .left), ("runs", .right), ("mean %", .right), ("median %", .right),
            ("in band %", .right), ("", .left),
        ])
        var groups: [String: (ErrorStatistics, Bool)] = [:]
        var counted = ErrorStatistics()
        for run in runs {
            var errors = ErrorStatistics()
            errors.add(predicted: run.estimate.mean.milliseconds, measured: run.measured, band: run.estimate.error)
            if run.isCounted { counted.add(errors) }
            groups["\(run.accelerator) \(run.model)", default: (ErrorStatistics(), run.isCounted)].0.add(errors)
        }
        for (key, (errors, isCounted)) in groups.sorted(by: { $0.key < $1.key }) {
            let names = key.split(separator: " ").map(String.init)
            shown.add([
                names[0], names[1], "\(errors.count)", percent(errors.mean), percent(errors.median),
                percent(errors.coverage), isCounted ? "" : "not counted",
            ])
        }
        shown.add([
            "all", "counted", "\(counted.count)", percent(counted.mean), percent(counted.median),
            percent(counted.coverage), "",
        ])
        print("Time per output token of vLLM servers\n\(shown.rendered(indent: 2))\n")
    }

    private func draw(
        _ catalog: ProfileCatalog,
        _ times: [String: [StepTime]],
        _ runs: [ServerRun],
        into folder: String
    ) throws {
        for accelerator in accelerators(catalog) {
            var series: [ScatterPlot.Series] = []
            for (phase, colour) in [(StepTime.Phase.prefill, "#1f77b4"), (.decode, "#2ca02c")] {
                var points: [(predicted: Double, measured: Double)] = []
                for fit in catalog.fits where fit.accelerator == accelerator {
                    let profile = profile(fit, catalog)
                    for time in times[fit.label] ?? [] where time.phase == phase {
                        points.append((time.estimate(profile).mean.milliseconds, time.duration.milliseconds))
                    }
                }
                series.append(ScatterPlot.Series(name: phase.rawValue, colour: colour, points: points))
            }
            let served = runs.filter { $0.accelerator == accelerator && $0.isCounted }
            series.append(
                ScatterPlot.Series(
                    name: "time per output token, vLLM servers",
                    colour: "#d62728",
                    points: served.map { ($0.estimate.mean.milliseconds, $0.measured) }
                )
            )
            let plot = ScatterPlot(title: accelerator, unit: "ms", series: series.filter { !$0.points.isEmpty })
            let path = "\(folder)/predicted-\(accelerator).svg"
            do {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                try Data(plot.svg().utf8).write(to: URL(filePath: path))
            } catch {
                Console.error("\(path): cannot be written: \(error.localizedDescription)")
                throw ExitCode(1)
            }
        }
    }
}

/// One end-to-end run of a real server: `system,backend,mode,model_path,precision,tp_size,isl,osl,concurrency,tpot_ms`.
struct ServerRun {
    var accelerator: String
    var model: String
    var estimate: PhaseEstimate
    /// Milliseconds per output token.
    var measured: Double
    /// Part of the target: the others' TPOT leaves out other requests' prefill, or is far slower than the kernels.
    var isCounted: Bool

    private static let counted: Set<String> = ["llama-3.1-70b", "gpt-oss-120b", "qwen3-32b"]
    private static let shown: Set<String> = counted.union(["llama-3.1-8b", "qwen3-235b-a22b"])
    /// Milliseconds: beyond it a server was saturated.
    private static let greatestTTFT = 10_000.0

    static func read(_ table: CSVTable, _ catalog: ProfileCatalog) -> [ServerRun] {
        (0..<table.count).compactMap { row in
            guard table.text(row, "backend") == "vllm", table.text(row, "mode") == "agg",
                let measured = table.number(row, "tpot_ms"), measured > 0, let ttft = table.number(row, "ttft_ms"),
                ttft < greatestTTFT, let ranks = table.number(row, "tp_size"), (1...1024).contains(ranks),
                let batch = table.number(row, "concurrency") ?? table.number(row, "batch_size"),
                let input = table.number(row, "isl"), let output = table.number(row, "osl")
            else { return nil }
            let pod = catalog.resolve(
                ProfileQuery(
                    accelerator: table.text(row, "system"),
                    model: table.text(row, "model_path"),
                    tensorParallel: Int(ranks),
                    dtype: table.text(row, "precision"),
                    engine: "vllm"
                )
            )
            guard shown.contains(pod.model) else { return nil }
            return ServerRun(
                accelerator: pod.accelerator,
                model: pod.model,
                estimate: pod.profile.closedLoopEstimate(batch: batch, input: input, output: output),
                measured: measured,
                isCounted: counted.contains(pod.model)
            )
        }
    }
}

/// How long one prediction takes here and now.
enum PredictionSpeed {
    private static let rounds = 1_000_000
    private static let tries = 5

    static func show(_ catalog: ProfileCatalog) {
        let query = (
            catalog.profile(accelerator: "h100-sxm", model: "llama-3.1-70b", tensorParallel: 4, dtype: "fp8"),
            catalog.profile(accelerator: "h200-sxm", model: "llama-3.1-70b", tensorParallel: 2, dtype: "fp8")
        )
        let (p, d) = query
        let transfer = KVTransfer(from: p, to: d, repacks: true)
        // Summed and printed, so that nothing is optimised away; arguments differ from round to round.
        var sum = 0.0
        func nanoseconds(_ body: (Int) -> Double) -> Double {
            // Processor time, the least of some tries: other work on the machine is no part of a prediction.
            var least = Double.infinity
            for _ in 0..<tries {
                let start = clock()
                for round in 0..<rounds { sum += body(round) }
                least = min(least, Double(clock() - start) / Double(CLOCKS_PER_SEC))
            }
            return least * 1e9 / Double(rounds)
        }
        let prefill = nanoseconds { p.prefill.duration(newTokens: 100 + $0 & 8191, cachedTokens: $0 & 1023).rawValue }
        let decode = nanoseconds { d.decode.step(batch: Double($0 & 255), kvTokens: Double($0)).rawValue }
        let moved = nanoseconds { transfer.exposed(tokens: Double($0 & 16383), prefill: Seconds(0.1)).rawValue }
        let pair = nanoseconds { round in
            let first = p.prefill.duration(newTokens: 100 + round & 8191, cachedTokens: 0)
            let exposed = transfer.exposed(tokens: Double(round & 16383), prefill: first)
            let step = d.decode.step(batch: Double(round & 255), kvTokens: Double(round))
            return first.rawValue + exposed.rawValue + step.rawValue
        }
        var table = TextTable([("prediction", .left), ("ns", .right)])
        for (name, value) in [("prefill", prefill), ("decode", decode), ("transfer", moved), ("pair", pair)] {
            table.add([name, Numbers.fixed(value, 1)])
        }
        print(
            "Nanoseconds per prediction (check \(Numbers.fixed(sum / Double(rounds), 3)))\n\(table.rendered(indent: 2))"
        )
    }
}
