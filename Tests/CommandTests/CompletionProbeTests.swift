// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation
import Testing

@testable import epp_pd

@Suite struct CompletionProbeTests {
    private func answer(_ lines: [String]) -> CompletionProbe.Answer {
        var answer = CompletionProbe.Answer(sent: Instant(0), arrivals: [], promptTokens: 0)
        for (index, line) in lines.enumerated() {
            CompletionProbe.take(Array(line.utf8), at: Instant(Double(index + 1)), into: &answer)
        }
        return answer
    }

    /// Whatever a server states, counts stay within what a request can have, and nothing traps.
    @Test(arguments: [
        "9223372036854775807", "-9223372036854775808", "1e300", "-5", "0", "10000001", "1e19", "3.7",
    ])
    func anyCountIsTaken(count: String) {
        let usage = """
            "usage": {"prompt_tokens": \(count), "completion_tokens": \(count),
             "prompt_tokens_details": {"cached_tokens": \(count)}}
            """
        let text = "{\"choices\": [{\"text\": \"a\"}]"
        let result = answer(["\(text), \(usage)}", "\(text)}", "\(text), \(usage)}", "{\"choices\": [], \(usage)}"])
        let limits = 0...10_000_003
        #expect(limits.contains(result.promptTokens) && limits.contains(result.cachedTokens ?? 0))
        #expect(result.arrivals.count == 3 && result.arrivals.allSatisfy { limits.contains($0.tokens) })
        _ = ServerProbe.sample([result, result], context: 128)
    }

    @Test func whatIsNoEventIsPassedOver() {
        let result = answer(["", "[]", "{\"usage\": 3}", "{\"choices\": [{\"text\": null}]}", "{"])
        #expect(result.arrivals.isEmpty && result.promptTokens == 0)
    }

    @Test func theCacheMustHoldWhatThePlanPutThere() {
        func problem(_ notes: [(Int, Int)]) -> String? {
            var watch = CacheWatch()
            for (cached, planned) in notes { watch.note(cached: cached, planned: planned) }
            return watch.problem
        }
        #expect(problem([(0, 0), (16, 0), (2040, 2048), (4096, 4100)]) == nil)
        // A server that has seen the prompts before.
        #expect(problem([(0, 0), (1008, 0)])?.contains("--seed") == true)
        // One without a prefix cache is measured as it is; one that forgets is not.
        #expect(problem([(0, 2048), (0, 4096)]) == nil)
        #expect(problem([(2048, 2048), (0, 4096)])?.contains("displaces") == true)
    }
}
