// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// What a transfer between two pods takes beyond its connector's fixed cost, in seconds.
package struct TransferCost: Sendable, Hashable, Codable {
    package var prefill: EndpointID
    package var decode: EndpointID
    package var extra: Double
}

/// Learned fixed costs of pairs, as a decision reads them.
package struct TransferCosts: Sendable {
    private var extras: [UInt64: Double] = [:]
    /// The least of them, never above zero: lower bounds of the search stand on it.
    private(set) var least = 0.0

    package init(_ costs: [TransferCost] = []) {
        for cost in costs { self[cost.prefill, cost.decode] = cost.extra }
    }

    package var isEmpty: Bool { extras.isEmpty }

    package subscript(prefill: EndpointID, decode: EndpointID) -> Double {
        get { extras[Self.key(prefill, decode)] ?? 0 }
        set {
            extras[Self.key(prefill, decode)] = newValue
            // Not raised again when a pair's cost rises: a bound that is too low costs time, no choice.
            least = min(least, newValue)
        }
    }

    private static func key(_ prefill: EndpointID, _ decode: EndpointID) -> UInt64 {
        UInt64(prefill.rawValue) << 32 | UInt64(decode.rawValue)
    }

    /// In the order of ids.
    package var list: [TransferCost] {
        extras.keys.sorted().map { key in
            TransferCost(
                prefill: EndpointID(UInt32(key >> 32)),
                decode: EndpointID(UInt32(truncatingIfNeeded: key)),
                extra: extras[key] ?? 0
            )
        }
    }
}

/// Learns them: the median of what TTFTs of a pair show beyond all that was predicted and beyond its prefill pod's own
/// offset. The offset has what a pod's pairs have alike; a pair, in what it differs.
struct TransferCalibrator: Sendable {
    private var medians: [String: OffsetMedian] = [:]

    /// Pairs that are followed, 0.6 KB each. The rest keep their connector's fixed cost.
    static let maximumPairs = 2048

    static func name(prefill: String, decode: String) -> String { "\(prefill)>\(decode)" }

    /// - Parameters:
    ///   - name: of the pair.
    ///   - residual: seconds of TTFT beyond the prediction without learned costs, less the pod's offset.
    ///   - fixedCost: of the connector: no transfer takes less than none.
    /// - Returns: the learned extra, nil while too little was seen.
    mutating func observe(_ name: String, residual: Double, fixedCost: Double) -> Double? {
        guard medians[name] != nil || medians.count < Self.maximumPairs else { return nil }
        medians[name, default: OffsetMedian()].observe(residual)
        return extra(name, fixedCost: fixedCost)
    }

    /// Forgets pairs of pods that have left, once there is no room for more.
    mutating func makeRoom(keeping pods: Set<String>) {
        guard medians.count >= Self.maximumPairs else { return }
        medians = medians.filter { name, _ in
            name.split(separator: ">", maxSplits: 1).allSatisfy { pods.contains(String($0)) }
        }
    }

    func extra(_ name: String, fixedCost: Double) -> Double? {
        guard let median = medians[name], median.samples >= OffsetMedian.leastSamples else { return nil }
        return max(median.median, -max(fixedCost, 0))
    }

    var state: [String: OffsetMedian] { medians }

    mutating func restore(_ saved: [String: OffsetMedian]) {
        for name in saved.keys.sorted().prefix(Self.maximumPairs) { medians[name] = saved[name] }
    }
}
