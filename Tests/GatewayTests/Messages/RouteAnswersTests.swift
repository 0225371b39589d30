// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import Gateway

@Suite("Answers that are kept")
struct RouteAnswersTests {
    @Test("Each route gets its own message, however many share a place, and is written once while it is kept")
    func routes() {
        var answers = RouteAnswers()
        var made = 0
        for round in 0..<3 {
            for pod in 0..<2_000 {
                let (destination, prefiller) = ("10.0.0.\(pod):8000", pod % 3 == 0 ? "10.1.0.\(pod):8000" : nil)
                let expected = Array("\(destination) \(prefiller ?? "-")".utf8)
                for _ in 0..<2 {
                    let found = answers.message(destinations: destination, prefiller: prefiller) {
                        made += 1
                        return expected
                    }
                    #expect(found == expected)
                }
            }
            #expect(made <= 2_000 * (round + 1))
        }
    }
}
