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
            ladder (by taking fits away), and of time per output token. --plots writes predicted against measured per \
            accelerator as SVG. Nanoseconds of one prediction: epp-pd-bench predict.
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
        let published: [ServerRun]
        do {
            times = MeasuredStepTimes.read(try table("fits/composed_step_times.csv.gz"), catalog)
            servers = ServerRun.read(try table("measured/e2e_silicon_ttft_tpot.csv.gz"), catalog)
            published = ServerRun.readPublished(try table("measured/published_points_amd_tpu.csv"), catalog)
        } catch {
            Console.error("\(data): \(error)")
            throw ExitCode(2)
        }
        showFits(catalog, times)
        showLadder(catalog, times)
        showServers(servers)
        showOthers(servers, published)
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
        for run in runs where run.isShown {
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

    /// Runs that no target speaks of: other models and layouts, other engines, points that others have published.
    private func showOthers(_ runs: [ServerRun], _ published: [ServerRun]) {
        var shown = TextTable([
            ("engine", .left), ("model", .left), ("layout", .left), ("runs", .right), ("mean %", .right),
            ("median %", .right), ("predicted ÷ measured", .right), ("band ±%", .right), ("in band %", .right),
            ("rungs", .left),
        ])
        let groups = Dictionary(grouping: runs.filter { !$0.isShown } + published) { run in
            [run.engine, run.model, run.layout]
        }
        for (names, runs) in groups.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            var errors = ErrorStatistics()
            for run in runs {
                errors.add(predicted: run.estimate.mean.milliseconds, measured: run.measured, band: run.estimate.error)
            }
            let ratios = runs.map { $0.estimate.mean.milliseconds / $0.measured }.sorted()
            let bands = runs.map(\.estimate.error).sorted()
            shown.add(
                names + [
                    "\(errors.count)", percent(errors.mean), percent(errors.median),
                    Numbers.fixed(ratios[ratios.count / 2], 2), percent(bands[bands.count / 2]),
                    percent(errors.coverage),
                    Set(runs.map(\.estimate.source.rawValue)).sorted().joined(separator: ", "),
                ]
            )
        }
        print("Other runs (no target; nothing was fitted on them)\n\(shown.rendered(indent: 2))\n")
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
