// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@testable import Router

@Suite struct DecisionFrameTests {
    private static var pace: [KeyPath<DecodePace, Double>] {
        [
            \.batch, \.kvTokens, \.stretch, \.step, \.nextStep, \.perKVToken, \.remaining, \.shareDollars, \.spread,
            \.leastPrefillPerToken,
        ]
    }

    /// What is not worked out again is what working it out would give, whatever happened in between.
    @Test(arguments: 0..<16) func refreshedPodsAreAsTheirLedgersSay(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var frame = RandomDecision(&random, prefills: 2, decodes: 4).frame
        var ledgers = [PodLedger](repeating: PodLedger(), count: frame.states.count)
        var now = 0.0
        var changes = 0
        for step in 0..<200 {
            let before = frame.states
            now += Double(Int.random(in: 0..<3, using: &random)) * 0.05
            let pod = Int.random(in: ledgers.indices, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0, 1:
                ledgers[pod].assign(prompt: 100, output: 50)
                ledgers[pod].advance(to: now)
                _ = ledgers[pod].join(prompt: 100, in: 0)
            case 2: ledgers[pod].release(prompt: 100, output: 50, joinedAt: nil)
            case 3:
                let job = VirtualPod.Job(
                    request: RequestID(UInt64(step)),
                    work: 0.2,
                    tail: 0,
                    reports: false,
                    readyAt: now
                )
                ledgers[pod].sendPrompt(job, tokens: 100, now: now)
            case 4: ledgers[pod].computeLocally(0.5, window: 10, now: now)
            case 5: frame.update(pod) { $0.calibration.decodeScale *= 1.1 }
            default: break
            }
            frame.refresh(&ledgers, window: 10, meanWork: 0.1, now: now)
            for pod in ledgers.indices {
                let (state, fresh) = (frame.states[pod], DecodePace(frame.states[pod]))
                for path in Self.pace { #expect(frame.paces[pod][keyPath: path] == fresh[keyPath: path]) }
                let view = ledgers[pod].look(window: 10, now: now)
                #expect(
                    state.backlog
                        == (state.calibration.isDegraded ? Double(ledgers[pod].prompts.count) * 0.1 : view.backlog)
                )
                #expect(state.batch == view.batch && state.kvTokens == view.kvTokens)
                #expect(state.outstandingTokens == view.outstandingTokens && state.localShare == view.localShare)
            }
            changes += frame.states == before ? 0 : 1
        }
        // Both kinds of rounds came.
        #expect(changes > 20)
    }
}
