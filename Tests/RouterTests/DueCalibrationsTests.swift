// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Testing

@testable import Router

struct DueCalibrationsTests {
    @Test func eachPodHasItsTurnHoweverOftenThereIsNews() {
        let pods = 150
        var due = DueCalibrations(pods: pods)
        #expect(due.take() == nil)
        var told = [Int](repeating: 0, count: pods)
        for _ in 0..<30 {
            due.add(Array(0..<pods))
            #expect(due.count == pods)
            for _ in 0..<DueCalibrations.atOnce {
                if let pod = due.take() { told[pod] += 1 }
            }
        }
        #expect(told.reduce(0, +) == 30 * DueCalibrations.atOnce)
        #expect((told.min() ?? 0) + 1 >= told.max() ?? 0)
    }

    /// 200 pods of one configuration: those that were not told with the answer are told with the events after it.
    @Test func aLargeConfigurationIsToldByAndBy() throws {
        var story = Story(Pods.snapshot((1...200).map { Pods.endpoint($0, .both) }))
        let before = story.router.frame.states[0].profile.prefill
        var id: UInt64 = 0
        while story.router.dueCalibrations.count == 0, id < 2000 {
            id += 1
            let n = 1000 + 97 * Int(id % 500)
            guard story.decide(Pods.request(id, prompt: n, output: 2), after: 30) != nil else { continue }
            let terms = try #require(story.router.inFlight[RequestID(id)]?.terms)
            _ = story.send(.firstToken(RequestID(id)), after: 3 * terms.prefill.rawValue + 0.02)
            story.end(id)
        }
        #expect(story.router.dueCalibrations.count == 200 - DueCalibrations.atOnce)
        for left in [72, 8, 0] {
            _ = story.send(.tick)
            #expect(story.router.dueCalibrations.count == left)
        }
        let after = Set(story.router.frame.states.map(\.profile.prefill))
        #expect(after.count == 1 && after.first != before)
    }
}
