// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Foundation
import Router

/// `epp-pd explain`: why each request went where it went, and whether the decision replays.
struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the ranked candidates of logged decisions, with every cost term.",
        discussion: """
            FILE is a decision log, as `epp-pd serve --decision-log FILE` writes it: one JSON object a line. \
            The lines of --log-format=json among them, as `kubectl logs` mixes the two, are passed over. \
            Times are milliseconds, money is dollars per 1,000 requests.

            EXAMPLES
              epp-pd explain decisions.jsonl
              epp-pd explain decisions.jsonl --request 513 --candidates 20
              epp-pd explain decisions.jsonl --check      # replay each line; exit 1 if a choice or a term differs
              kubectl logs deploy/epp-pd-shadow | epp-pd explain -
            """
    )

    @Argument(help: "The decision log; - reads standard input.")
    var file: String

    @Flag(help: "Replay each decision, and exit 1 if its choice or any term of it differs.")
    var check = false

    @Option(help: "Show this request only.")
    var request: UInt64?

    @Option(help: "Candidates to show of each decision.")
    var candidates = 8

    @Flag(help: "Print one JSON object on one line: lines read, replayed and different.")
    var json = false

    func validate() throws {
        guard candidates > 0 else { throw ValidationError("--candidates takes a whole number from 1 on") }
    }

    func run() throws {
        var summary = ExplainSummary()
        let lines = try LineReader(path: file)
        while let line = lines.next() {
            guard !line.isEmpty else { continue }
            if JSONLogHandler.wrote(line) { continue }
            summary.lines += 1
            guard let record = try? JSONDecoder().decode(DecisionRecord.self, from: line) else {
                summary.unreadable += 1
                Console.error("\(file):\(lines.number): not a decision: is this a decision log of this version?")
                continue
            }
            summary.shadow.add(record)
            if let request, record.input.request.id.rawValue != request { continue }
            if check {
                replay(record, line: lines.number, &summary)
            } else if !json {
                print(DecisionText.text(of: record, candidates: candidates))
            }
        }
        if json {
            print(try JSONLine.encode(summary))
        } else if check {
            print("\(summary.replayed) of \(summary.lines) decisions replayed, \(summary.different) differ")
        }
        if !json, request == nil, let text = summary.shadow.text { print(text) }
        if summary.different > 0 || summary.unreadable > 0 { throw ExitCode(1) }
    }

    private func replay(_ record: DecisionRecord, line: Int, _ summary: inout ExplainSummary) {
        summary.replayed += 1
        guard !record.replays else { return }
        summary.different += 1
        let request = record.input.request.id.rawValue
        Console.error("\(file):\(line): request \(request) replays differently:")
        Console.error("  logged   \(record.chosen.map { "\($0)" } ?? "none")")
        Console.error("  replayed \(record.input.choose().map { "\($0)" } ?? "none")")
    }
}

private struct ExplainSummary: Encodable {
    var lines = 0
    var replayed = 0
    var different = 0
    var unreadable = 0
    var shadow = ShadowSummary()
}
