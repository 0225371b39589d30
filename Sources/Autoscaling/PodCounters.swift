// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What a model server has counted since it started, or a group of them within a window. What a server does not count
/// stays zero.
package struct PodCounters: Sendable, Hashable {
    private var values = SIMD16<Double>.zero

    package init() {}

    package var requests: Double {
        get { values[0] }
        set { values[0] = newValue }
    }
    /// Prompt tokens in all, those of them found in the server's own cache, and those that came from another server.
    package var promptTokens: Double {
        get { values[1] }
        set { values[1] = newValue }
    }
    package var cachedTokens: Double {
        get { values[2] }
        set { values[2] = newValue }
    }
    package var transferredTokens: Double {
        get { values[3] }
        set { values[3] = newValue }
    }
    package var generatedTokens: Double {
        get { values[4] }
        set { values[4] = newValue }
    }
    /// Requests with a known time to first token, and those of them within the bound.
    package var ttftRequests: Double {
        get { values[5] }
        set { values[5] = newValue }
    }
    package var ttftMet: Double {
        get { values[6] }
        set { values[6] = newValue }
    }
    /// The same for the time per output token.
    package var tpotRequests: Double {
        get { values[7] }
        set { values[7] = newValue }
    }
    package var tpotMet: Double {
        get { values[8] }
        set { values[8] = newValue }
    }

    /// Prompt tokens that were computed.
    var computedTokens: Double { max(promptTokens - cachedTokens - transferredTokens, 0) }

    /// More than any server counts between two readings: a larger step is no count.
    private static let greatestStep = 1e12

    /// - Returns: nil where a counter fell or is no number: it belongs to another process.
    func growth(since before: PodCounters) -> PodCounters? {
        var result = PodCounters()
        result.values = values - before.values
        let isGrowth = result.values .>= 0 .& (result.values .<= Self.greatestStep)
        return all(isGrowth) ? result : nil
    }

    func scaled(by factor: Double) -> PodCounters {
        var result = self
        result.values *= factor
        return result
    }

    static func += (a: inout PodCounters, b: PodCounters) { a.values += b.values }
}
