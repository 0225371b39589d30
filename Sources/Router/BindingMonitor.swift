// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Whether late binding may be trusted: it needs first tokens, and predictions that hold.
///
/// Without first tokens the ledger cannot know when a pod is free, and holding requests back loses more than order
/// gains: mean TTFT was five times as long in a simulation where none was seen (docs/decisions/0018).
struct BindingMonitor: Sendable {
    private var seen = DecayedShare(memory: 0.99)
    private var off = DecayedShare(memory: 0.99)
    private var samples = 0
    private(set) var isTrusted = true

    /// Requests before a verdict.
    static let fewest = 50
    /// Below this share of requests that showed a first token, and from this one on again.
    static let leastSeen = 0.5
    static let enoughSeen = 0.6
    /// Above this share of predictions off by a factor of three, and from this one on again.
    static let mostOff = 0.3
    static let fewOff = 0.15

    mutating func requestEnded(firstTokenSeen: Bool) {
        seen.add(firstTokenSeen ? 1 : 0, of: 1)
        samples = min(samples + 1, Self.fewest)
        judge()
    }

    mutating func firstToken(predicted: Double, observed: Double) {
        let ratio = observed / max(predicted, 1e-3)
        off.add(ratio > 3 || ratio < 1 / 3.0 ? 1 : 0, of: 1)
    }

    private mutating func judge() {
        guard samples >= Self.fewest else { return }
        if seen.share < Self.leastSeen || off.share > Self.mostOff {
            isTrusted = false
        } else if seen.share > Self.enoughSeen, off.share < Self.fewOff {
            isTrusted = true
        }
    }
}
