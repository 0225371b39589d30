// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Glibc

/// Events per second, by exponential decay.
struct DecayedRate: Sendable {
    private let window: Double
    private var count = 0.0
    private var at = 0.0
    private var since: Double?

    init(window: Double) { self.window = window }

    mutating func add(at now: Double) {
        if since == nil { since = now }
        count = decayed(now) + 1
        at = now
    }

    private func decayed(_ now: Double) -> Double { count * exp(-max(now - at, 0) / window) }

    /// Until a window has passed, the rate over what has passed: at least a second, so that one event is no flood.
    func perSecond(at now: Double) -> Double {
        guard let since, count > 0 else { return 0 }
        let seen = window * (1 - exp(-max(now - since, 1) / window))
        return decayed(now) / seen
    }
}

/// A share of one sum in another, the older parts fading.
struct DecayedShare: Sendable {
    private let memory: Double
    private var part = 0.0
    private var whole = 0.0

    init(memory: Double) { self.memory = memory }

    mutating func add(_ part: Double, of whole: Double) {
        self.part = self.part * memory + part
        self.whole = self.whole * memory + whole
    }

    var share: Double { whole > 0 ? min(max(part / whole, 0), 1) : 0 }
}
