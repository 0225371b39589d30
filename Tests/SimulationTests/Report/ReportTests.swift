// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router
import Testing

@testable import Simulation

struct ReportTests {
    private func report(title: String) throws -> (HTMLReport, ExperimentResults) {
        let experiment = Experiment(
            workload: Scene.mixed(100, rate: 5, seed: 3),
            endpoints: Scene.pair,
            options: SimulationOptions(),
            mode: .latency
        )
        var runs: [PolicyRun] = []
        var results = ExperimentResults(runs: [])
        for load in [0.5, 1.0] {
            let run = try experiment.run(PolicyName(.lmetric), load: load, seed: 1)
            runs.append(run)
            let bounds = experiment.bounds(load: load, seed: 1)
            results.runs.append(.init(load: load, seed: 1, policies: ["lmetric": run.metrics], bounds: bounds))
        }
        return (HTMLReport(title: title, facts: [("trace", "a<b")], runs: runs, results: results), results)
    }

    @Test func thePageIsWholeAndNeedsNothingElse() throws {
        let html = try report(title: "t & <x>").0.html
        #expect(html.hasPrefix("<!DOCTYPE html>") && html.hasSuffix("</html>"))
        // Overview: attainment, TTFT and dollars; two distributions per load; one utilisation.
        #expect(html.components(of: "<svg") == 3 + 4 + 1)
        #expect(html.components(of: "<svg") == html.components(of: "</svg>"))
        // Each plot names its own lines: a policy's on seven, the accelerators' on the last.
        #expect(html.components(of: "<figcaption><span>") == 8 && html.components(of: "</i>lmetric</span>") == 7)
        #expect(html.components(of: "</i>h100-sxm prefill</span>") == 1)
        #expect(!html.contains("http") && !html.contains("<script"))
        #expect(html.contains("t &amp; &lt;x&gt;") && html.contains("a&lt;b") && !html.contains("nan"))
    }

    @Test func plotsStandAlone() throws {
        let plots = try report(title: "t").0.plots
        #expect(plots.map(\.name) == ["attainment", "ttft", "dollars"])
        for plot in plots {
            #expect(plot.svg.hasPrefix("<svg xmlns=") && plot.svg.hasSuffix("</svg>\n"))
            #expect(plot.svg.contains("lmetric") && !plot.svg.contains("nan") && !plot.svg.contains("var("))
        }
    }

    @Test func quantilesInterpolate() {
        let quantiles = Quantiles([4, 1, 3, 2])
        #expect(quantiles[0] == 1 && quantiles[1] == 4 && quantiles[0.5] == 2.5 && quantiles.mean == 2.5)
        #expect(isNear(quantiles[0.9], 3.7))
        #expect(Quantiles([])[0.5] == 0)
    }

    @Test func theHighestLoadIsBetweenWhatHoldsAndWhatFails() throws {
        let experiment = Experiment(
            workload: Scene.mixed(300, rate: 2, seed: 3),
            endpoints: Scene.fleet(prefill: 1, decode: 1),
            options: Scene.exact,
            mode: .latency
        )
        let found = try experiment.findMaximumLoad(PolicyName(.leastRequest), target: 0.9, seeds: [1])
        func attainment(_ load: Double) throws -> Double {
            try experiment.run(PolicyName(.leastRequest), load: load, seed: 1).metrics.sloAttainment
        }
        #expect(try found.load > 0 && attainment(found.load) >= 0.9)
        #expect(try attainment(found.load + Experiment.loadStep) < 0.9)
    }
}

extension String {
    fileprivate func components(of part: String) -> Int {
        var (count, rest) = (0, self[...])
        while let range = rest.firstRange(of: part) {
            count += 1
            rest = rest[range.upperBound...]
        }
        return count
    }
}
