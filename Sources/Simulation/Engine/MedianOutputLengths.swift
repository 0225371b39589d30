// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Guesses output lengths: the running median of the last hundred answers to prompts of like length, by powers of two.
package struct MedianOutputLengths: Sendable, Hashable {
    /// Answers remembered per bucket.
    static let window = 100
    /// Where nothing was seen yet: between the medians of the public chat traces (129 and 350).
    static let firstGuess = 200

    private struct Bucket: Sendable, Hashable {
        /// In order of arrival, a ring once full.
        var recent: [Int] = []
        var next = 0
        var sorted: [Int] = []

        mutating func add(_ value: Int) {
            if recent.count < window {
                recent.append(value)
            } else {
                let old = recent[next]
                recent[next] = value
                next = (next + 1) % window
                sorted.remove(at: Self.place(of: old, in: sorted))
            }
            sorted.insert(value, at: Self.place(of: value, in: sorted))
        }

        private static func place(of value: Int, in sorted: [Int]) -> Int {
            var (low, high) = (0, sorted.count)
            while low < high {
                let middle = (low + high) / 2
                if sorted[middle] < value { low = middle + 1 } else { high = middle }
            }
            return low
        }
    }

    private var buckets: [Bucket] = Array(repeating: Bucket(), count: 64)

    package init() {}

    private static func bucket(_ promptTokens: Int) -> Int {
        Int.bitWidth - 1 - max(promptTokens, 1).leadingZeroBitCount
    }

    package mutating func observe(promptTokens: Int, outputTokens: Int) {
        buckets[Self.bucket(promptTokens)].add(outputTokens)
    }

    /// The median of the prompt's bucket, else of the nearest bucket that has seen anything.
    package func estimate(promptTokens: Int) -> Int {
        let home = Self.bucket(promptTokens)
        for distance in 0..<buckets.count {
            for index in [home - distance, home + distance] where buckets.indices.contains(index) {
                let sorted = buckets[index].sorted
                if !sorted.isEmpty { return sorted[sorted.count / 2] }
            }
        }
        return Self.firstGuess
    }
}
