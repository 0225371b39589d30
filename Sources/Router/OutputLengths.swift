// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Output lengths learned per model and prompt length: the running quantile of the last answers in each power of two of
/// prompt tokens.
///
/// By default the median of the last 100 per log2 bucket, as measured in the simulator (docs/simulator.md). Until a bucket
/// has seen a few, its nearest neighbour that has answers for it.
package struct OutputLengths: Sendable {
    /// Answers kept per bucket.
    static let window = 100
    /// Answers that a bucket needs before it is believed.
    static let fewest = 5
    /// 2^24 tokens: no prompt is longer.
    static let buckets = 25
    /// Models learned apart; later ones share one entry. 25 buckets of 100 take 40 KB each.
    package static let maximumModels = 64
    /// Expected of a model that never answered: between the means of public traces (Azure 2023 and Mooncake: docs/data.md).
    package static let initial = 256

    private struct Bucket: Sendable {
        var recent: [Int32] = []
        var next = 0
        var sorted: [Int32] = []

        mutating func learn(_ value: Int32) {
            if recent.count < OutputLengths.window {
                recent.append(value)
            } else {
                let old = recent[next]
                recent[next] = value
                if let at = sorted.firstIndex(of: old) { sorted.remove(at: at) }
            }
            next = (next + 1) % OutputLengths.window
            let at = sorted.firstIndex { $0 >= value } ?? sorted.count
            sorted.insert(value, at: at)
        }
    }

    private struct Model: Sendable {
        var buckets = [Bucket](repeating: Bucket(), count: OutputLengths.buckets)
    }

    private let quantile: Double
    private var index: [String: Int] = [:]
    private var models: [Model] = [Model()]
    /// The model that was learned of last: most requests of a fleet are for one, and comparing costs less than hashing.
    private var last: (name: String, place: Int)?

    package init(quantile: Double = 0.5) { self.quantile = min(max(quantile, 0), 1) }

    private static func bucket(of promptTokens: Int) -> Int {
        let tokens = UInt(max(promptTokens, 1))
        return min(UInt.bitWidth - 1 - tokens.leadingZeroBitCount, buckets - 1)
    }

    package mutating func learn(model: String?, promptTokens: Int, outputTokens: Int) {
        guard outputTokens > 0, promptTokens > 0 else { return }
        let name = model ?? ""
        let at: Int
        if let last, last.name == name {
            at = last.place
        } else if let known = index[name] {
            at = known
        } else if models.count <= Self.maximumModels {
            at = models.count
            models.append(Model())
            index[name] = at
        } else {
            at = 0
        }
        last = (name, at)
        models[at].buckets[Self.bucket(of: promptTokens)].learn(Int32(clamping: outputTokens))
    }

    /// Output tokens to expect, at most the request's own `limit` and at least one.
    package func expected(model: String?, promptTokens: Int, limit: Int? = nil) -> Int {
        let name = model ?? ""
        let place: Int
        if let last, last.name == name { place = last.place } else { place = index[name] ?? 0 }
        let learned = learned(place, Self.bucket(of: promptTokens))
        return max(min(learned ?? Self.initial, limit ?? .max), 1)
    }

    /// What the bucket says, or its nearest neighbour that may speak, the shorter of two.
    private func learned(_ model: Int, _ bucket: Int) -> Int? {
        for distance in 0..<Self.buckets {
            if bucket >= distance, let length = learned(model, at: bucket - distance) { return length }
            if bucket + distance < Self.buckets, let length = learned(model, at: bucket + distance) { return length }
        }
        return nil
    }

    private func learned(_ model: Int, at bucket: Int) -> Int? {
        let count = models[model].buckets[bucket].sorted.count
        guard count >= Self.fewest else { return nil }
        return Int(models[model].buckets[bucket].sorted[min(Int(quantile * Double(count)), count - 1)])
    }
}
