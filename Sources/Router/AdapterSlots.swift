// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The LoRA adapters of an engine's requests, and how many different ones it can run at a time: what vLLM's
/// `lora_requests_info` says.
package struct AdapterSlots: Sendable, Hashable, Codable {
    package var slots: Int
    package var running: [String]
    package var waiting: [String]

    /// More adapters than any engine runs at a time.
    package static let maximumSlots = 256

    package init(slots: Int, running: [String] = [], waiting: [String] = []) {
        self.slots = min(max(slots, 0), Self.maximumSlots)
        self.running = running
        self.waiting = waiting
    }
}

/// What an engine must do before it can compute a request for an adapter.
package enum AdapterState: String, Sendable, Hashable, Codable {
    /// It is in a slot.
    case loaded
    /// A slot has no request, or holds an adapter without one: a load away.
    case slotFree
    /// Requests for other adapters run in all slots: it waits for one of them to be done with.
    case slotsFull
}

/// Which adapters an engine has in its slots, as far as can be told: engines name only those that have requests, and displace
/// the one that was used least lately. Those that had some lately are taken to be there still, as many as there are slots.
package struct AdapterCache: Sendable, Hashable {
    /// 0: the engine says nothing of adapters.
    package private(set) var slots = 0
    /// The last used first; those of the engine's slots.
    private var recent: [String] = []
    /// Those with requests now: none of them can be displaced.
    private var pinned: [String] = []
    private var running: [String] = []

    /// From disk into a slot. An adapter of rank 64 for a model of 8 billion parameters has some 100 MB, which a local disk
    /// gives at 2 GB/s; out of the host's memory it is less.
    package static let loadSeconds = 0.05
    /// Answers take seconds. Where the sequences that hold the slots are not ours, no more is known of their end.
    package static let leastTurnover = 1.0

    package init() {}

    package mutating func observe(_ seen: AdapterSlots) {
        slots = seen.slots
        running = seen.running
        pinned = []
        for name in seen.running + seen.waiting where !pinned.contains(name) { pinned.append(name) }
        for name in seen.waiting.reversed() { touch(name) }
        for name in seen.running.reversed() { touch(name) }
    }

    /// We sent it a request for this adapter; what it says next knows of that.
    package mutating func use(_ name: String) {
        guard slots > 0 else { return }
        if !pinned.contains(name), pinned.count < 2 * AdapterSlots.maximumSlots { pinned.append(name) }
        touch(name)
    }

    private mutating func touch(_ name: String) {
        recent.removeAll { $0 == name }
        recent.insert(name, at: 0)
        // What has requests stays, and of the rest what was used last.
        while recent.count > max(slots, running.count) {
            guard let last = recent.lastIndex(where: { !running.contains($0) }) else { break }
            recent.remove(at: last)
        }
    }

    /// nil where the engine says nothing of adapters.
    package func state(of name: String) -> AdapterState? {
        guard slots > 0 else { return nil }
        if running.contains(name) { return .loaded }
        let others = pinned.count { $0 != name }
        // One that waits for a slot has been sent, and is not there.
        guard others < slots else { return .slotsFull }
        return recent.contains(name) ? .loaded : .slotFree
    }

    /// Seconds before a request for the adapter can begin. `turnover`: until the sequences that run now have ended.
    package func delay(of state: AdapterState, turnover: Double) -> Double {
        switch state {
        case .loaded: 0
        case .slotFree: Self.loadSeconds
        case .slotsFull: Self.loadSeconds + max(turnover, Self.leastTurnover)
        }
    }
}

/// What one pod must do for a request's adapter.
package struct AdapterNeed: Sendable, Hashable, Codable {
    package var state: AdapterState
    /// Seconds before the request can begin.
    package var delay: Double
}

extension Router {
    /// Notes what each pod in play must do for the request's adapter, where it asks for one.
    mutating func findAdapter(_ request: InferenceRequest, _ pool: CandidatePool) {
        guard pool.isForAdapter, let name = request.model else { return }
        var needs = [AdapterNeed?](repeating: nil, count: fleet.endpoints.count)
        for index in frame.prefills + frame.decodes where needs[index] == nil {
            let cache = ledgers[index].adapters
            guard let state = cache.state(of: name) else { continue }
            let pace = frame.paces[index]
            needs[index] = AdapterNeed(
                state: state,
                delay: cache.delay(of: state, turnover: pace.remaining * pace.step)
            )
        }
        frame.adapters = needs
    }
}
