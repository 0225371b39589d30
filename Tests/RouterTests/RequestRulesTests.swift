// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import Router

@Suite("Request rules")
struct RequestRulesTests {
    static func share(_ rules: RequestRules, _ model: String = "m", draws: Int = 20_000) -> [String: Double] {
        var random = SplitMix64(seed: 11)
        var counts: [String: Int] = [:]
        for _ in 0..<draws { counts[rules.target(for: model, draw: random.next()) ?? model, default: 0] += 1 }
        return counts.mapValues { Double($0) / Double(draws) }
    }

    static func rules(_ targets: [RequestRules.Target], models: [String] = ["m"]) -> RequestRules {
        RequestRules(splits: [RequestRules.Split(models: models, targets: targets)])
    }

    @Test("Traffic splits by weight")
    func weights() throws {
        let share = Self.share(Self.rules([.init(model: "a", weight: 90), .init(model: "b", weight: 10)]))
        #expect(abs(try #require(share["a"]) - 0.9) < 0.01)
        #expect(abs(try #require(share["b"]) - 0.1) < 0.01)
    }

    @Test("No weights at all are equal ones; among weights an absent one is none")
    func missingWeights() throws {
        let equal = Self.share(Self.rules([.init(model: "a"), .init(model: "b")]))
        #expect(abs(try #require(equal["a"]) - 0.5) < 0.02)
        #expect(Self.share(Self.rules([.init(model: "a", weight: 1), .init(model: "b")])) == ["a": 1])
        #expect(
            Self.share(Self.rules([.init(model: "a", weight: -5), .init(model: "b", weight: Int.max)])) == ["b": 1]
        )
    }

    @Test("The model's own rule beats the one for any; others stay as they are")
    func precedence() {
        let rules = RequestRules(splits: [
            RequestRules.Split(models: [], targets: [.init(model: "any")]),
            RequestRules.Split(models: ["m"], targets: [.init(model: "own")]),
        ])
        #expect(rules.target(for: "m", draw: 7) == "own")
        #expect(rules.target(for: "x", draw: 7) == "any")
        #expect(RequestRules().target(for: "m", draw: 7) == nil)
        #expect(rules.target(for: "own", draw: 7) == "any")
        #expect(Self.rules([.init(model: "m")]).target(for: "m", draw: 7) == nil)
    }

    @Test("A session keeps its target, and a changed weight moves few")
    func sticky() {
        let before = Self.rules([.init(model: "a", weight: 50), .init(model: "b", weight: 50)])
        let after = Self.rules([.init(model: "a", weight: 60), .init(model: "b", weight: 40)])
        var moved = 0
        for session in 0..<1000 {
            let draw = RequestRules.draw(of: "session-\(session)")
            #expect(
                before.target(for: "m", draw: draw)
                    == before.target(for: "m", draw: RequestRules.draw(of: "session-\(session)"))
            )
            if before.target(for: "m", draw: draw) != after.target(for: "m", draw: draw) { moved += 1 }
        }
        #expect((50...150).contains(moved))
    }

    @Test("An objective's priority counts before the model's")
    func priorities() {
        let rules = RequestRules(objectives: ["o": 5], modelPriorities: ["m": -1])
        #expect(rules.priority(objective: "o", model: "m") == 5)
        #expect(rules.priority(objective: "none", model: "m") == -1)
        #expect(rules.priority(objective: nil, model: nil) == 0)
    }
}
