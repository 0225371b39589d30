// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What a model server has counted since it started, or a group of them within a window. What a server does not count
/// stays zero.
package struct PodCounters: Sendable, Hashable {
    package var requests = 0.0
    /// Prompt tokens in all, those of them found in the server's own cache, and those that came from another server.
    package var promptTokens = 0.0
    package var cachedTokens = 0.0
    package var transferredTokens = 0.0
    package var generatedTokens = 0.0
    /// Requests with a known time to first token, and those of them within the bound.
    package var ttftRequests = 0.0
    package var ttftMet = 0.0
    /// The same for the time per output token.
    package var tpotRequests = 0.0
    package var tpotMet = 0.0

    package init() {}

    private static let all: [any WritableKeyPath<PodCounters, Double> & Sendable] = [
        \.requests, \.promptTokens, \.cachedTokens, \.transferredTokens, \.generatedTokens,
        \.ttftRequests, \.ttftMet, \.tpotRequests, \.tpotMet,
    ]

    /// Prompt tokens that were computed.
    var computedTokens: Double { max(promptTokens - cachedTokens - transferredTokens, 0) }

    /// More than any server counts between two readings: a larger step is no count.
    private static let greatestStep = 1e12

    /// - Returns: nil where a counter fell or is no number: it belongs to another process.
    func growth(since before: PodCounters) -> PodCounters? {
        var result = self
        for count in Self.all {
            result[keyPath: count] -= before[keyPath: count]
            guard (0...Self.greatestStep).contains(result[keyPath: count]) else { return nil }
        }
        return result
    }

    func scaled(by factor: Double) -> PodCounters {
        var result = self
        for count in Self.all { result[keyPath: count] *= factor }
        return result
    }

    static func += (a: inout PodCounters, b: PodCounters) {
        for count in all { a[keyPath: count] += b[keyPath: count] }
    }
}
