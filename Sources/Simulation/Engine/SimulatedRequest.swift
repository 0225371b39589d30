// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A request on its way through the simulation.
struct SimulatedRequest: Sendable {
    enum State: UInt8, Sendable { case ahead, waiting, sent, done, refused, failed }

    var state = State.ahead
    var picker: Int32 = 0
    var isSheddable = false
    var streams = true
    /// Its picker sees the answer's bodies.
    var isObserved = true
    /// Pods of the placement, −1 for none.
    var prefiller: Int32 = -1
    var decoder: Int32 = -1
    var pullFrom: Int32 = -1
    var cachedTokens: Int32 = 0
    /// The KV transfer under way, −1 for none.
    var transfer: Int32 = -1
    /// The prefill pod keeps its KV.
    var holdsPrefill = false
    /// Its picker's index still expects the prompt's blocks on the pod that computes it, and on the one that decodes it.
    var isPendingAtPrefiller = false
    var isPendingAtDecoder = false
    var sentAt = 0.0
    /// Engines that serve by priority take the lowest first.
    var priority = 0.0
    var prefillStart = 0.0
    var firstToken = -1.0
    var finished = -1.0

    /// A pair moves KV; everything else is one job on one pod.
    var isPair: Bool { prefiller != decoder }
}

/// An order-sensitive digest of everything that a run decided and saw: equal hashes mean equal runs.
struct TraceHash: Sendable {
    private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

    mutating func add(_ word: UInt64) {
        value = (value ^ word) &* 0x0000_0100_0000_01B3
        value ^= value >> 29
    }

    mutating func add(_ tag: UInt8, _ request: Int, _ at: Double) {
        add(UInt64(tag) << 56 ^ UInt64(truncatingIfNeeded: request))
        add(at.bitPattern)
    }
}
