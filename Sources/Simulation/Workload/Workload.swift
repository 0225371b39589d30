// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A request as a workload offers it.
package struct OfferedRequest: Sendable, Hashable {
    /// Seconds since the workload's begin.
    package var arrival: Double
    package var promptTokens: Int
    package var outputTokens: Int
    /// One hash per full block of the prompt; each names the block and all before it.
    package var promptHashes: [UInt64]
    /// Hashes of the full blocks that the answer completes, where a later prompt may begin with them.
    package var outputHashes: [UInt64]

    package init(
        arrival: Double,
        promptTokens: Int,
        outputTokens: Int,
        promptHashes: [UInt64] = [],
        outputHashes: [UInt64] = []
    ) {
        self.arrival = arrival
        self.promptTokens = promptTokens
        self.outputTokens = outputTokens
        self.promptHashes = promptHashes
        self.outputHashes = outputHashes
    }
}

/// What is asked of a fleet: requests in order of arrival.
package struct Workload: Sendable {
    package var name: String
    /// Tokens per block of the prompts' hashes.
    package var blockSize: Int
    package var requests: [OfferedRequest]
    /// Arrivals are given in ticks of this many distinct values; those of one tick are spread before a run.
    package var arrivalsAreTicks: Bool

    package init(name: String, blockSize: Int, requests: [OfferedRequest], arrivalsAreTicks: Bool = false) {
        self.name = name
        self.blockSize = blockSize
        self.requests = requests
        self.arrivalsAreTicks = arrivalsAreTicks
    }

    /// Seconds from the first arrival to the last.
    package var span: Double { (requests.last?.arrival ?? 0) - (requests.first?.arrival ?? 0) }

    /// The first `count` requests.
    package func prefix(_ count: Int) -> Workload {
        var copy = self
        copy.requests = Array(requests.prefix(max(count, 0)))
        return copy
    }

    /// The same requests in the same time, at equal gaps.
    package func evenlySpaced() -> Workload {
        var copy = self
        copy.arrivalsAreTicks = false
        let gap = span / Double(max(requests.count - 1, 1))
        for index in copy.requests.indices {
            copy.requests[index].arrival = (requests.first?.arrival ?? 0) + Double(index) * gap
        }
        return copy
    }

    /// The workload with its gaps divided by `load`, and ticks spread: arrivals of one tick fall anywhere before the next.
    package func scaled(load: Double, seed: UInt64) -> Workload {
        var copy = self
        var random = RandomStream(seed: seed, kind: 0xA11, index: 0)
        let first = requests.first?.arrival ?? 0
        var begin = 0
        while begin < requests.count {
            var end = begin + 1
            while end < requests.count, requests[end].arrival == requests[begin].arrival { end += 1 }
            if arrivalsAreTicks {
                let start = requests[begin].arrival
                let next = end < requests.count ? requests[end].arrival : start + 1
                let offsets = (begin..<end).map { _ in random.uniform() * (next - start) }.sorted()
                for (index, offset) in zip(begin..<end, offsets) { copy.requests[index].arrival = start + offset }
            }
            begin = end
        }
        for index in copy.requests.indices {
            copy.requests[index].arrival = (copy.requests[index].arrival - first) / load
        }
        return copy
    }
}

/// Why a workload could not be read.
package enum WorkloadError: Error, Sendable, Hashable {
    /// More than 1 % of the lines are malformed.
    case malformed(lines: [Int], of: Int)
    case empty
    case tooManyRequests(limit: Int)
    /// Arrivals lie further apart than any trace of use: a time is wrong, or in other units.
    case tooLong(seconds: Double)
}

/// A workload read from a file, and what was wrong with the file.
package struct TraceReading: Sendable {
    package var workload: Workload
    /// Numbers of the lines that were left out, from 1.
    package var malformedLines: [Int]

    /// Share of malformed lines beyond which a trace is refused.
    package static let malformedLimit = 0.01
    /// A hundred times the largest known trace: what fits into a few gigabytes.
    package static let maximumRequests = 20_000_000
    /// Seconds from the first arrival to the last: a month. Pods are scraped all the while.
    package static let maximumSpan = 31 * 86_400.0

    /// Judges what a reader of lines found.
    static func judge(_ workload: Workload, malformed: [Int], lines: Int) throws(WorkloadError) -> TraceReading {
        guard Double(malformed.count) <= malformedLimit * Double(lines) else {
            throw .malformed(lines: malformed, of: lines)
        }
        guard !workload.requests.isEmpty else { throw .empty }
        guard workload.requests.count <= maximumRequests else { throw .tooManyRequests(limit: maximumRequests) }
        var ordered = workload
        // A stable sort: equal arrivals keep the order of the file.
        ordered.requests = workload.requests.enumerated()
            .sorted { ($0.element.arrival, $0.offset) < ($1.element.arrival, $1.offset) }.map(\.element)
        guard ordered.span <= maximumSpan else { throw .tooLong(seconds: ordered.span) }
        return TraceReading(workload: ordered, malformedLines: malformed)
    }
}
