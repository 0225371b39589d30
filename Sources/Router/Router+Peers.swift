// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// What pickers side by side tell each other, so that each one's ledger holds the others' work too. The Router makes and
/// takes these values; carrying them is the shell's matter. All may be lost, doubled or late.
package struct PeerNotice: Sendable, Hashable, Codable {
    /// A request of one picker.
    package struct Key: Sendable, Hashable, Codable {
        package var picker: UInt32
        package var request: RequestID

        package init(picker: UInt32, request: RequestID) {
            self.picker = picker
            self.request = request
        }
    }

    /// Work that a picker has put on pods. Pods are named by `ip:port`, which all pickers share.
    package struct Work: Sendable, Hashable, Codable {
        package var prefiller: String
        package var destination: String
        package var promptTokens: Int
        package var outputTokens: Int
        package var streams: Bool
        /// Predicted seconds of prefill, and from its end to the first token.
        package var prefill: Seconds
        package var tail: Seconds
    }

    package enum Event: Sendable, Hashable, Codable {
        case dispatched(Work)
        case firstToken
        case ended
    }

    package var key: Key
    package var event: Event

    package init(key: Key, event: Event) {
        self.key = key
        self.event = event
    }
}

/// Work of another picker, as this one's ledger holds it.
struct PeerWork: Sendable {
    var work: PeerNotice.Work
    /// How the ledger knows it: an id that no request of ours has.
    var id: RequestID
    var since: Instant
    /// Endpoints as they were named then: an address may pass to another pod.
    var prefiller: EndpointID?
    var destination: EndpointID?
    var promptIsPending = true
    var joinedAt: Double?
}

extension Router {
    /// Peers' requests that are followed. Beyond, notices of new ones are dropped.
    static let maximumPeerWork = 1 << 17
    /// A peer's request that never ends was a peer that did.
    static let peerPatience = Seconds(600)

    /// Notices to send to the other pickers, oldest first. Empty unless `sharesWork` is on.
    package mutating func takeNotices() -> [PeerNotice] {
        defer { notices.removeAll(keepingCapacity: true) }
        return notices
    }

    mutating func notify(_ id: RequestID, _ event: PeerNotice.Event) {
        guard options.sharesWork, notices.count < Self.maximumPeerWork else { return }
        notices.append(PeerNotice(key: PeerNotice.Key(picker: options.picker, request: id), event: event))
    }

    mutating func peerNoticed(_ notice: PeerNotice) {
        guard notice.key.picker != options.picker else { return }
        switch notice.event {
        case .dispatched(let work): peerDispatched(notice.key, work)
        case .firstToken: peerSawToken(notice.key)
        case .ended: peerEnded(notice.key)
        }
    }

    private mutating func peerDispatched(_ key: PeerNotice.Key, _ claimed: PeerNotice.Work) {
        forgetSilentPeers()
        guard peers[key] == nil, peers.count < Self.maximumPeerWork,
            claimed.prefill.rawValue.isFinite, claimed.tail.rawValue.isFinite
        else { return }
        var work = claimed
        work.promptTokens = min(max(work.promptTokens, 1), Self.maximumTokens)
        work.outputTokens = min(max(work.outputTokens, 1), Self.maximumTokens)
        let mixedKey = mixed(UInt64(key.picker) << 32 ^ mixed(key.request.rawValue))
        var entry = PeerWork(work: work, id: RequestID(mixedKey | 1 << 63), since: now)
        let time = now.rawValue
        if let p = hostPorts[work.prefiller] {
            entry.prefiller = fleet.endpoints[p].endpoint.id
            let job = VirtualPod.Job(
                request: entry.id,
                work: max(work.prefill.rawValue, 0),
                tail: max(work.tail.rawValue, 0),
                reports: work.streams,
                readyAt: time
            )
            ledgers[p].sendPrompt(job, tokens: work.promptTokens, now: time)
        }
        if let d = hostPorts[work.destination] {
            entry.destination = fleet.endpoints[d].endpoint.id
            ledgers[d].assign(prompt: work.promptTokens, output: work.outputTokens)
            if !work.streams {
                let start = max((work.prefill + work.tail).rawValue, 0)
                entry.joinedAt = ledgers[d].join(prompt: work.promptTokens, in: start)
            }
        }
        peers[key] = entry
    }

    private mutating func peerSawToken(_ key: PeerNotice.Key) {
        guard var entry = peers[key], entry.promptIsPending, entry.work.streams else { return }
        entry.promptIsPending = false
        let time = now.rawValue
        if let p = entry.prefiller.flatMap(index) {
            let end = time - max(entry.work.tail.rawValue, 0)
            _ = ledgers[p].promptSeen(entry.id, tokens: entry.work.promptTokens, end: end, now: time)
        }
        if let d = entry.destination.flatMap(index) {
            ledgers[d].advance(to: time)
            entry.joinedAt = ledgers[d].join(prompt: entry.work.promptTokens, in: 0)
        }
        peers[key] = entry
    }

    private mutating func peerEnded(_ key: PeerNotice.Key) {
        guard let entry = peers.removeValue(forKey: key) else { return }
        let time = now.rawValue
        if entry.promptIsPending, let p = entry.prefiller.flatMap(index) {
            ledgers[p].dropPrompt(entry.id, tokens: entry.work.promptTokens, now: time)
        }
        if let d = entry.destination.flatMap(index) {
            ledgers[d].advance(to: time)
            ledgers[d].release(
                prompt: entry.work.promptTokens,
                output: entry.work.outputTokens,
                joinedAt: entry.joinedAt
            )
        }
    }

    /// Once a minute, what peers will never end.
    private mutating func forgetSilentPeers() {
        guard now - peersSwept >= Seconds(60) else { return }
        peersSwept = now
        let silent = peers.filter { now - $0.value.since > Self.peerPatience }.map(\.key)
        let ordered = silent.sorted { ($0.picker, $0.request) < ($1.picker, $1.request) }
        for key in ordered { peerEnded(key) }
    }
}
