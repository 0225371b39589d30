// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Testing

@testable import Kubernetes

@Suite struct AccessCacheTests {
    @Test("Answers are kept for their time, and what is unknown is not kept")
    func times() {
        var cache = AccessCache()
        cache.keep(.allowed, for: "a", at: Instant(0))
        cache.keep(.forbidden("no"), for: "b", at: Instant(0))
        cache.keep(.unknown("down"), for: "c", at: Instant(0))
        #expect(cache.access("a", at: Instant(59)) == .allowed)
        #expect(cache.access("a", at: Instant(60)) == nil)
        #expect(cache.access("b", at: Instant(9)) == .forbidden("no"))
        #expect(cache.access("b", at: Instant(10)) == nil)
        #expect(cache.access("c", at: Instant(0)) == nil)
    }

    @Test("It is bounded, and forgets what ends first")
    func bounded() {
        var cache = AccessCache()
        for index in 0...AccessCache.limit {
            cache.keep(.allowed, for: "token-\(index)", at: Instant(Double(index) * 0.01))
        }
        #expect(cache.access("token-0", at: Instant(3)) == nil)
        #expect(cache.access("token-1", at: Instant(3)) == .allowed)
        #expect(cache.access("token-\(AccessCache.limit)", at: Instant(3)) == .allowed)
    }
}
