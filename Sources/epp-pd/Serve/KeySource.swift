// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Where the keys for exact lookups in the prefix index came from.
enum KeySource: String, CaseIterable {
    /// The request carried token ids.
    case request
    /// An engine cut the prompt into tokens when asked.
    case engine
    /// An engine did so before, for a prompt with the same start.
    case cache
    /// No engine answered in time: text alone.
    case late
    /// Nobody was asked: text alone.
    case text

    /// Its place among all cases.
    fileprivate var index: Int {
        switch self {
        case .request: 0
        case .engine: 1
        case .cache: 2
        case .late: 3
        case .text: 4
        }
    }
}

/// Counts requests by where their keys came from.
struct KeySourceCounts: Sendable {
    private var counts = [Int](repeating: 0, count: KeySource.allCases.count)

    mutating func count(_ source: KeySource) { counts[source.index] += 1 }

    var all: [(source: KeySource, count: Int)] { zip(KeySource.allCases, counts).map { (source: $0, count: $1) } }
}
