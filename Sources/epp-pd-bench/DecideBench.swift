// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Foundation
import Router

/// `epp-pd-bench decide`: processor time of the Router's events on fleets in full work.
struct DecideBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "decide",
        abstract: "Measure the processor time of decisions, early and late, on fleets in full work.",
        discussion: """
            Prompts of 128 blocks wait for computing all the time, so many as --waiting says: in the central queue with late \
            binding, in the pods' own queues with early binding. Times are of one event each; what holds the Router's lock.
            """
    )

    @Option(help: "Prefill pods, and as many decode pods: a comma list.") var pods = "100,1000"
    @Option(help: "Prompts that wait.") var waiting = 64
    @Option(help: "Blocks of 16 tokens per prompt.") var blocks = 128
    @Option(help: "Requests that are measured, after half as many to warm up.") var requests = 20_000
    @Option(help: "Seed of the workload.") var seed: UInt64 = 1
    @Flag(help: "Print one JSON object.") var json = false

    private var sizes: [Int] { pods.split(separator: ",").compactMap { Int($0) } }

    func validate() throws {
        guard !sizes.isEmpty, sizes.allSatisfy({ (1...5_000).contains($0) }), (0...100_000).contains(waiting),
            (1...8_192).contains(blocks), (100...10_000_000).contains(requests)
        else { throw ValidationError("pods 1…5000, waiting 0…100000, blocks 1…8192, requests 100…10000000") }
    }

    func run() throws {
        var report = DecideReport(waiting: waiting, blocks: blocks, requests: requests)
        for pods in sizes {
            for binding in Binding.allCases {
                var world = try DecideWorld(
                    binding: binding,
                    pods: pods,
                    waiting: waiting,
                    blocks: blocks,
                    seed: seed
                )
                world.run(requests: requests / 2)
                world.startMeasuring(requests: requests)
                world.run(requests: requests)
                report.runs.append(world.result)
            }
        }
        try write(report)
    }

    private func write(_ report: DecideReport) throws {
        guard !json else {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys]
            return print(String(decoding: try encoder.encode(report), as: UTF8.self))
        }
        print("pods        binding  event        count      p50 µs    p99 µs    max µs   µs per request")
        for run in report.runs {
            for event in run.events {
                let perRequest = event.name == "all" ? String(format: "%16.1f", run.us_per_request) : ""
                print(
                    "\(run.prefill_pods) x \(run.decode_pods)".padding(toLength: 12, withPad: " ", startingAt: 0)
                        + run.binding.padding(toLength: 9, withPad: " ", startingAt: 0)
                        + event.name.padding(toLength: 11, withPad: " ", startingAt: 0)
                        + String(format: "%7d %10.1f", event.count, event.p50_us)
                        + String(format: " %9.1f %9.1f", event.p99_us, event.max_us) + perRequest
                )
            }
        }
    }
}

/// What the measurement found.
struct DecideReport: Encodable {
    var waiting: Int
    var blocks: Int
    var requests: Int
    var runs: [Run] = []

    struct Run: Encodable {
        var binding: String
        var prefill_pods: Int
        var decode_pods: Int
        /// Mean number of prompts that waited.
        var mean_waiting: Double
        /// Processor time of all events, over the requests that were placed.
        var us_per_request: Double
        var events: [Event]
    }

    struct Event: Encodable {
        var name: String
        var count: Int
        var p50_us: Double
        var p99_us: Double
        var max_us: Double
    }
}
