// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One self-contained page on an experiment: no script, no other file.
package struct HTMLReport {
    private let title: String
    private let facts: [(String, String)]
    private let runs: [PolicyRun]
    private let results: ExperimentResults

    /// `facts` say what was run, as pairs of a name and a value; policies appear in the order of `runs`.
    package init(title: String, facts: [(String, String)], runs: [PolicyRun], results: ExperimentResults) {
        self.title = title
        self.facts = facts
        self.runs = runs
        self.results = results
    }

    private var policies: [String] {
        var seen: Set<String> = []
        return runs.map(\.policy).filter { seen.insert($0).inserted }
    }

    private var loads: [Double] { Set(runs.map(\.load)).sorted() }

    package var html: String {
        let rows = facts.map { "<tr><th>\(escaped($0.0))</th><td>\(escaped($0.1))</td></tr>" }.joined(separator: "\n")
        let charts = (overview + distributions + utilisation).map { chart in
            "<figure>\(chart.svg)<figcaption>\(chart.legend)</figcaption></figure>"
        }.joined(separator: "\n")
        return """
            <!DOCTYPE html>
            <html lang="en"><head><meta charset="utf-8"><title>\(escaped(title))</title>
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <style>\(Self.style)</style></head><body>
            <h1>\(escaped(title))</h1>
            <table class="facts">\(rows)</table>
            <div class="charts">\(charts)</div>
            <h2>Numbers</h2>
            \(table)
            </body></html>
            """
    }

    private static let style = """
        :root{color-scheme:light dark;--ink:#222;--paper:#fff;--line:#ddd;--dim:#666}
        @media(prefers-color-scheme:dark){:root{--ink:#ddd;--paper:#181818;--line:#333;--dim:#999}}
        body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1360px;padding:0 1rem;color:var(--ink);background:var(--paper)}
        .charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:1rem}
        figure{margin:0;border:1px solid var(--line);border-radius:6px;min-width:0}
        figcaption{padding:0 .8rem .6rem;font-size:.85rem}.wide{overflow-x:auto}
        svg{width:100%;height:auto;font-size:12px}svg text{fill:var(--ink)}svg .title{font-weight:600;font-size:14px}
        svg .tick{fill:var(--dim);font-size:11px}svg .grid{stroke:var(--line)}
        @media(max-width:600px){svg{font-size:16px}svg .title{font-size:18px}svg .tick{font-size:15px}}
        table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.2rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
        th:first-child,td:first-child{text-align:left}.facts td{text-align:left;white-space:normal;overflow-wrap:anywhere}
        figcaption span{display:inline-block;margin-right:1rem}figcaption i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.35em}
        """

    // MARK: Charts

    /// The overview's plots as files of their own: a name without suffix, and the picture.
    package var plots: [(name: String, svg: String)] {
        overview.map { ($0.name, $0.document) }
    }

    private func mean(_ policy: String, _ load: Double, _ value: (PolicyMetrics) -> Double) -> Double? {
        let values = runs.filter { $0.policy == policy && $0.load == load }.map { value($0.metrics) }
        return values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
    }

    private func overLoads(_ value: @escaping (PolicyMetrics) -> Double) -> [Chart.Series] {
        policies.enumerated().map { index, policy in
            Chart.Series(
                name: policy,
                index: index,
                points: loads.compactMap { load in mean(policy, load, value).map { (load, $0) } }
            )
        }
    }

    private var overview: [Chart] {
        var charts: [Chart] = []
        if loads.count > 1 {
            charts.append(
                Chart(
                    name: "attainment",
                    title: "SLO attainment over load",
                    xLabel: "load",
                    yLabel: "share of offered requests",
                    yRange: 0...1,
                    series: overLoads(\.sloAttainment)
                )
            )
            charts.append(
                Chart(
                    name: "ttft",
                    title: "Mean TTFT over load",
                    xLabel: "load",
                    yLabel: "ms",
                    yScale: .logarithmic,
                    series: overLoads(\.ttftMean)
                )
            )
        }
        let dollars = policies.enumerated().map { index, policy in
            let points = loads.compactMap { load -> (load: Double, x: Double, y: Double)? in
                guard let x = mean(policy, load, \.busyDollarsPerThousand), let y = mean(policy, load, \.sloAttainment)
                else { return nil }
                return (load, x, y)
            }
            return Chart.Series(
                name: policy,
                index: index,
                points: points.map { (x: $0.x, y: $0.y) },
                labels: points.map { Self.short($0.load) }
            )
        }
        charts.append(
            Chart(
                name: "dollars",
                title: "Dollars against attainment, points named by their load",
                xLabel: "busy dollars per 1,000 requests",
                yLabel: "SLO attainment",
                isScatter: true,
                series: dollars
            )
        )
        return charts
    }

    private func distribution(_ title: String, _ load: Double, _ values: (PolicyRun) -> [Double]) -> Chart {
        Chart(
            title: "\(title), load \(Self.short(load))",
            xLabel: "ms",
            yLabel: "share of requests",
            xScale: .logarithmic,
            yRange: 0...1,
            series: policies.enumerated().compactMap { index, policy in
                guard let run = runs.first(where: { $0.policy == policy && $0.load == load }) else { return nil }
                let points = values(run).enumerated().map { (x: $1 * 1000, y: Double($0) / 100) }
                return Chart.Series(name: policy, index: index, points: points)
            }
        )
    }

    private var distributions: [Chart] {
        loads.flatMap { load in
            [
                distribution("Time to first token", load) { $0.ttftPercentiles },
                distribution("Time per output token", load) { $0.tpotPercentiles },
            ]
        }
    }

    /// Of the first run of each policy at its highest load.
    private var utilisation: [Chart] {
        policies.compactMap { policy in
            let own = runs.filter { $0.policy == policy }
            guard let load = own.map(\.load).max(), let run = own.first(where: { $0.load == load }) else { return nil }
            let series = run.utilisation.enumerated().map { index, pods in
                let points = zip(pods.times, pods.shares).map { (x: $0, y: $1) }
                return Chart.Series(name: pods.accelerator, index: index, points: points)
            }
            return Chart(
                title: "Busy share of \(policy), load \(Self.short(load))",
                xLabel: "s",
                yLabel: "share of time",
                yRange: 0...1,
                series: series
            )
        }
    }

    // MARK: Table

    private var table: String {
        let titles = [
            "policy", "load", "seed", "TTFT mean ms", "p50", "p90", "p99", "TPOT mean ms", "p90", "SLO", "goodput rps",
            "$/1k", "hit", "long p99 slowdown", "refused", "failed", "trace hash",
        ]
        let head = titles.map { "<th>\($0)</th>" }.joined()
        let rows = runs.map { run in
            let m = run.metrics
            let numbers = [
                run.load, Double(run.seed), m.ttftMean, m.ttftP50, m.ttftP90, m.ttftP99, m.tpotMean, m.tpotP90,
                m.sloAttainment, m.goodput, m.busyDollarsPerThousand, m.prefixHitRatio, m.longPromptP99Slowdown,
                Double(m.rejected), Double(m.failed),
            ]
            let cells = numbers.map { "<td>\(Self.short($0))</td>" }.joined()
            return "<tr><td>\(escaped(run.policy))</td>\(cells)<td><code>\(m.traceHash)</code></td></tr>"
        }
        return "\(Self.wide(head, rows))\n\(boundsTable)"
    }

    private var boundsTable: String {
        let titles = [
            "load", "seed", "TTFT floor mean ms", "p90", "pooled SRPT mean ms", "pooled utilisation",
            "infinite-cache hit", "fluid TTFT mean ms", "$/1k floor", "fluid max load", "with 5 % free", "SLO at most",
            "95 % up to",
        ]
        let head = titles.map { "<th>\($0)</th>" }.joined()
        let rows = results.runs.map { run in
            let b = run.bounds
            let numbers: [Double?] = [
                run.load, Double(run.seed), b.ttftFloorMean, b.ttftFloorP90, b.pooledMean, b.pooledUtilisation,
                b.infiniteCacheHitRatio, b.fluidTTFTMean, b.busyDollarsPerThousand, b.highestLoad, b.highestLoadAt95,
                b.timelyShare, b.timelyLoadAt95,
            ]
            let cells = numbers.map { "<td>\($0.map(Self.short) ?? "–")</td>" }
            return "<tr>" + cells.joined() + "</tr>"
        }
        return "<h2>Bounds</h2>\(Self.wide(head, rows))"
    }

    /// A table that scrolls where the window is narrow.
    private static func wide(_ head: String, _ rows: [String]) -> String {
        "<div class=\"wide\"><table><tr>\(head)</tr>\n\(rows.joined(separator: "\n"))</table></div>"
    }

    private static func short(_ value: Double) -> String {
        let digits: Double = abs(value) >= 100 ? 1 : abs(value) >= 10 ? 10 : 1000
        let rounded = (value * digits).rounded() / digits
        return rounded == rounded.rounded() && abs(rounded) < 1e15 ? "\(Int(rounded))" : "\(rounded)"
    }
}
