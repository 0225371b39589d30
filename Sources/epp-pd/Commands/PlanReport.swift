// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router
import Simulation

/// What `plan` found, for people and as JSON.
struct PlanReport {
    var plan: FleetPlan
    var result: FleetPlan.Result

    var text: String {
        var lines: [String] = []
        var table = TextTable([
            ("", .left), ("$/h", .right), ("pods", .right), ("SLO %", .right), ("TTFT mean", .right),
            ("TPOT p90", .right), ("busy $/1k", .right), ("room", .right), ("fleet", .left),
        ])
        let rows = [("cheapest", result.best), ("runner-up", result.runnerUp), ("failed", result.failed)]
        for case (let title, .some(let judged)) in rows { table.add(row(title, judged)) }
        lines.append(table.rendered())
        lines.append("")
        lines.append(verdict)
        let seen =
            "\(result.looked) fleets: \(result.beyondBound) cannot carry the load under any policy, \(result.runs) were simulated"
        if result.mayBeCheaper || result.mayHaveOthers {
            let what = result.mayBeCheaper ? "cheaper ones hold" : "another one than the runner-up comes next"
            lines.append(
                "\(seen); the runs did not decide whether \(what): raise --max-runs, or narrow the choice by "
                    + "NAME:TENSOR-PARALLEL:DTYPE."
            )
        } else {
            lines.append("\(seen); the others are dearer, or have no more room than one of their kind that failed.")
        }
        return lines.joined(separator: "\n")
    }

    private func row(_ title: String, _ judged: FleetPlan.Judged) -> [String] {
        let metrics = judged.metrics
        return [
            title, Numbers.fixed(judged.dollarsPerHour, 2), "\(judged.mix.pods)",
            (judged.metrics == nil ? "< " : "") + Numbers.fixed(judged.attainment * 100, 2),
            metrics.map { Numbers.fixed($0.ttftMean, 0) } ?? "–", metrics.map { Numbers.fixed($0.tpotP90, 1) } ?? "–",
            metrics.map { Numbers.fixed($0.busyDollarsPerThousand, 2) } ?? "–", Numbers.fixed(judged.room, 2),
            judged.mix.described(plan.choices),
        ]
    }

    private var verdict: String {
        guard let best = result.best else {
            guard !result.mayBeCheaper else {
                return
                    "none of the \(result.runs) simulated fleets keeps the service level; raise --max-runs, or narrow "
                    + "the choice by NAME:TENSOR-PARALLEL:DTYPE"
            }
            return "no fleet of at most \(plan.maximumPods) pods that was judged keeps the service level"
        }
        guard let other = result.runnerUp else {
            return "no second fleet was found within \(plan.maximumRuns) runs and \(plan.maximumPods) pods"
        }
        let more = other.dollarsPerHour - best.dollarsPerHour
        let why =
            more > 0.005
            ? "costs $\(Numbers.fixed(more, 2)) more per hour (\(Numbers.fixed(more / best.dollarsPerHour * 100, 1)) %)"
            : "costs the same, and was found later"
        let points = (other.attainment - best.attainment) * 100
        let kept =
            abs(points) < 0.005
            ? "and keeps the same share of service levels"
            : points > 0
                ? "though it keeps \(Numbers.fixed(points, 2)) points more of the service levels"
                : "and keeps \(Numbers.fixed(-points, 2)) points less of the service levels"
        return "the runner-up \(why), \(kept)"
    }

    // MARK: JSON

    struct Document: Encodable {
        struct Fleet: Encodable {
            var fleet: String
            var usdPerHour: Double
            var pods: Int
            var sloAttainment: Double
            var room: Double
            var metrics: PolicyMetrics?

            enum CodingKeys: String, CodingKey {
                case fleet
                case usdPerHour = "usd_per_hour"
                case pods
                case sloAttainment = "slo_attainment"
                case room = "fluid_room"
                case metrics
            }
        }

        var cheapest: Fleet?
        var runnerUp: Fleet?
        var failed: Fleet?
        var why: String
        var looked: Int
        var beyondBound: Int
        var simulated: Int
        var cutShort: Bool

        enum CodingKeys: String, CodingKey {
            case cheapest
            case runnerUp = "runner_up"
            case failed, why, looked
            case beyondBound = "beyond_bound"
            case simulated
            case cutShort = "cut_short"
        }
    }

    var document: Document {
        func fleet(_ judged: FleetPlan.Judged) -> Document.Fleet {
            Document.Fleet(
                fleet: judged.mix.described(plan.choices),
                usdPerHour: judged.dollarsPerHour,
                pods: judged.mix.pods,
                sloAttainment: judged.attainment,
                room: judged.room,
                metrics: judged.metrics
            )
        }
        return Document(
            cheapest: result.best.map(fleet),
            runnerUp: result.runnerUp.map(fleet),
            failed: result.failed.map(fleet),
            why: verdict,
            looked: result.looked,
            beyondBound: result.beyondBound,
            simulated: result.runs,
            cutShort: result.mayBeCheaper || result.mayHaveOthers
        )
    }

    /// The fleet as `simulate` reads it; for `serve` the addresses are to be filled in.
    func fleetFile(_ judged: FleetPlan.Judged, model: String) -> String {
        var lines = ["# \(judged.mix.described(plan.choices)): $\(Numbers.fixed(judged.dollarsPerHour, 2)) per hour"]
        lines.append("endpoints:")
        let roles = [("prefill", judged.mix.prefill), ("decode", judged.mix.decode), ("both", judged.mix.both)]
        for (role, counts) in roles {
            for (index, count) in counts.enumerated() where count > 0 {
                let choice = plan.choices[index]
                let ranks = choice.endpoint.kv.tensorParallel
                lines.append(
                    "  - {name: \(role)-\(choice.endpoint.accelerator)-\(index), role: \(role), "
                        + "accelerator: \(choice.endpoint.accelerator), model: \(model), tensorParallel: \(ranks), "
                        + "dtype: \(choice.dtype), count: \(count)}"
                )
            }
        }
        return lines.joined(separator: "\n")
    }
}
