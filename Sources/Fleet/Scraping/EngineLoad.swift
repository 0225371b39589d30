// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
package import CostModel
package import Router

extension EngineObservation {
    /// No engine holds more requests or blocks; keeps sums of hostile numbers far from overflow.
    private static let greatestCount = 1e9

    /// The load that the Router sees. A gauge that the page does not name counts as zero, as long as one is there:
    /// Triton without TensorRT-LLM tells only its queue.
    package func load(observedAt: Instant) -> EndpointLoad? {
        guard !isEmpty else { return nil }
        return EndpointLoad(
            observedAt: observedAt,
            waiting: Self.count(self[.waiting]) ?? 0,
            running: Self.count(self[.running]) ?? 0,
            kvUse: min(max(self[.kvUse] ?? 0, 0), 1),
            kvBlocks: Self.count(self[.kvBlocks]),
            kvBlockSize: Self.count(self[.kvBlockSize]).flatMap { $0 > 0 ? $0 : nil },
            preemptions: Self.count(self[.preemptions]),
            adapters: adapters
        )
    }

    private static func count(_ value: Double?) -> Int? {
        value.map { Int(min(max($0, 0), greatestCount)) }
    }
}
