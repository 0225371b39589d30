// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import Router
import Testing

@testable import epp_pd

@Suite struct RequestRewriteTests {
    private static let rules = RequestRules(splits: [
        RequestRules.Split(
            models: ["m"],
            targets: [RequestRules.Target(model: "a", weight: 1), RequestRules.Target(model: "b", weight: 1)]
        )
    ])

    private struct Said {
        var session: String?
        var key: String?
        var user: String?
        var salt: String?
    }

    /// The model that serves a request of this number.
    private static func served(_ number: UInt64, _ said: Said) -> String? {
        let request = ParsedRequest(
            id: RequestID(number),
            api: .chatCompletions,
            model: "m",
            cacheSalt: said.salt,
            promptCacheKey: said.key,
            user: said.user,
            session: said.session
        )
        return RequestRewrite.apply(rules, to: request) { _ in }.model
    }

    @Test(arguments: 0..<4) func whatIsSaidKeepsRequestsTogether(field: Int) {
        var models: Set<String?> = []
        for name in 0..<40 {
            var said = Said()
            let path: WritableKeyPath<Said, String?> = [\.session, \.key, \.user, \.salt][field]
            said[keyPath: path] = "name \(name)"
            let served = Set((0..<20).map { Self.served(UInt64(name * 100 + $0), said) })
            #expect(served.count == 1)
            models.formUnion(served)
        }
        #expect(models == ["a", "b"])
    }

    /// The narrower word decides, whatever the wider ones say.
    @Test func theNarrowestCounts() {
        let order: [WritableKeyPath<Said, String?>] = [\.session, \.key, \.user, \.salt]
        for (index, path) in order.enumerated() {
            for name in 0..<20 {
                var alone = Said()
                alone[keyPath: path] = "name \(name)"
                let expected = Self.served(1, alone)
                for other in 0..<10 {
                    var said = alone
                    for wider in order[(index + 1)...] { said[keyPath: wider] = "other \(other)" }
                    #expect(Self.served(UInt64(other), said) == expected)
                }
            }
        }
    }

    /// A session, a key and a user of one name are three things.
    @Test func namesOfDifferentKindsAreDrawnApart() {
        let differing = (0..<64).filter { name in
            let key = Self.served(1, Said(key: "\(name)"))
            return key != Self.served(1, Said(user: "\(name)"))
        }
        #expect(differing.count > 10)
    }

    @Test func withoutAWordEachIsDrawn() {
        let models = (0..<400).map { Self.served($0, Said()) }
        #expect((150...250).contains(models.count { $0 == "a" }))
    }
}
