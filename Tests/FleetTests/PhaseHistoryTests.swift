// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Router
import Testing

@testable import Fleet

@Suite struct PhaseHistoryTests {
    private let pod = EndpointID(3)

    private func page(prefills: Double, seconds: Double, decodes: Double = 0) -> EngineObservation {
        var page = EngineObservation()
        page[.prefillTimeCount] = prefills
        page[.prefillTimeSum] = seconds
        page[.decodeTimeCount] = decodes
        page[.decodeTimeSum] = decodes * 2
        return page
    }

    @Test func tellsGrowthInPortions() {
        var history = PhaseHistory()
        #expect(history.growth(pod, page(prefills: 100, seconds: 50)) == nil)
        #expect(history.growth(pod, page(prefills: 104, seconds: 51)) == nil)
        let growth = history.growth(pod, page(prefills: 109, seconds: 53, decodes: 2))
        #expect(
            growth
                == PhaseGrowth(prefillSeconds: Seconds(3), prefills: 9, decodeSeconds: Seconds(4), decodes: 2)
        )
        #expect(history.growth(pod, page(prefills: 110, seconds: 54, decodes: 2)) == nil)
    }

    @Test(arguments: [-1.0, .nan, .infinity, 1e300])
    func countersOfAnotherProcessBeginAnew(count: Double) {
        var history = PhaseHistory()
        _ = history.growth(pod, page(prefills: 100, seconds: 50))
        #expect(history.growth(pod, page(prefills: count, seconds: 0)) == nil)
        #expect(history.growth(pod, page(prefills: 3, seconds: 4)) == nil)
    }

    @Test func anEndpointThatLeftIsForgotten() {
        var history = PhaseHistory()
        _ = history.growth(pod, page(prefills: 0, seconds: 0))
        history.forget(pod)
        #expect(history.growth(pod, page(prefills: 100, seconds: 50)) == nil)
    }
}
