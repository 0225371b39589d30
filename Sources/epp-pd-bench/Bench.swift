// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser

/// Measurements that the documents quote: one subcommand per part.
///
///     BENCHMARKS=1 swift build -c release --product epp-pd-bench
@main
struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "epp-pd-bench",
        abstract: "Measure parts of epp-pd in this process.",
        subcommands: [
            IndexBench.self, IndexSoak.self, DecideBench.self, PredictBench.self, LoadBench.self, UpstreamBench.self,
            EchoBench.self,
        ]
    )
}
