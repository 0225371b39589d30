// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Configuration
package import Router

/// What one metrics page said. nil = the page does not name it.
package struct EngineObservation: Sendable, Hashable {
    private var values: [Double?]
    package var adapters: AdapterSlots?

    package init() {
        values = [Double?](repeating: nil, count: EngineQuantity.allCases.count)
    }

    package subscript(quantity: EngineQuantity) -> Double? {
        get { values[quantity.rawValue] }
        set { values[quantity.rawValue] = newValue }
    }

    /// True when the page named none of the gauges of load: it is not this engine's page.
    package var isEmpty: Bool {
        self[.waiting] == nil && self[.running] == nil && self[.kvUse] == nil
    }

    /// Seconds and requests that the engine's histograms of phases have counted since it started.
    package struct Phase: Sendable, Hashable {
        package var seconds: Double
        package var requests: Double

        package init(seconds: Double, requests: Double) {
            self.seconds = seconds
            self.requests = requests
        }
    }

    package var queueTime: Phase? { phase(.queueTimeSum, .queueTimeCount) }
    package var prefillTime: Phase? { phase(.prefillTimeSum, .prefillTimeCount) }
    package var decodeTime: Phase? { phase(.decodeTimeSum, .decodeTimeCount) }

    private func phase(_ sum: EngineQuantity, _ count: EngineQuantity) -> Phase? {
        guard let seconds = self[sum], let requests = self[count] else { return nil }
        return Phase(seconds: seconds, requests: requests)
    }
}
