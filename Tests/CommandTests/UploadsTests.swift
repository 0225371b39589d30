// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import Testing
import Transport

@testable import epp_pd

@Suite("Bodies on their way") struct UploadsTests {
    private final class Waiting: PendingExchange {
        func resolve(_ verdict: Verdict) {}
        func stalled() {}
    }

    private static func second(_ count: UInt64) -> MonotonicTime { MonotonicTime(nanoseconds: count * 1_000_000_000) }

    @Test("The late ones are taken out, the longest first; the others stay")
    func late() {
        var uploads = Uploads()
        let exchanges = (0..<4).map { _ in Waiting() }
        // The place of the first is taken by a later one.
        let gone = uploads.add(exchanges[0], at: Self.second(1))
        _ = uploads.add(exchanges[1], at: Self.second(2))
        uploads.remove(gone)
        _ = uploads.add(exchanges[2], at: Self.second(3))
        _ = uploads.add(exchanges[3], at: Self.second(9))
        #expect(uploads.takeLate(by: .seconds(5), at: Self.second(6)).isEmpty)
        let late = uploads.takeLate(by: .seconds(5), at: Self.second(10))
        #expect(late.count == 2 && late.first === exchanges[1] && late.last === exchanges[2])
        #expect(!uploads.isEmpty)
        #expect(uploads.takeLate(by: .seconds(5), at: Self.second(14)).count == 1)
        #expect(uploads.isEmpty)
    }

    @Test("Who has gone already is not taken out twice, nor who has its place")
    func twice() {
        var uploads = Uploads()
        let first = uploads.add(Waiting(), at: Self.second(1))
        uploads.remove(first)
        let second = uploads.add(Waiting(), at: Self.second(2))
        uploads.remove(first)
        #expect(!uploads.isEmpty)
        uploads.remove(second)
        #expect(uploads.isEmpty)
    }

    @Test("Exchanges are not held when they have gone")
    func held() {
        var uploads = Uploads()
        weak var exchange: Waiting?
        do {
            let made = Waiting()
            exchange = made
            uploads.remove(uploads.add(made, at: Self.second(1)))
        }
        #expect(exchange == nil)
    }
}
