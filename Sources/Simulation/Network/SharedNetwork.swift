// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// KV transfers over the pods' networks. Each pod sends and receives at its line's rate; transfers that share a line
/// share it equally, and a transfer is as fast as the slower of its two shares.
struct SharedNetwork: Sendable {
    struct Transfer: Sendable {
        var source: Int
        var target: Int
        var remaining: Double
        var rate: Double
        var settled: Double
        var version: UInt32
        var isActive: Bool
        /// The request that waits for it, and for what.
        var request: Int
        var purpose: UInt32
    }

    /// A transfer whose end has moved.
    struct Due: Sendable {
        var transfer: Int
        var version: UInt32
        var at: Double
    }

    private let rates: [Double]
    private var sending: [[Int]]
    private var receiving: [[Int]]
    private(set) var transfers: [Transfer] = []
    private var free: [Int] = []
    private(set) var bytesMoved = 0.0

    /// Slower than any network that carries KV: keeps a missing figure from dividing by zero.
    private static let leastRate = 1e6

    /// - Parameter rates: bytes per second of each pod's line, one way.
    init(rates: [Double]) {
        self.rates = rates.map { max($0, Self.leastRate) }
        sending = Array(repeating: [], count: rates.count)
        receiving = Array(repeating: [], count: rates.count)
    }

    /// What a transfer between two pods runs at while nobody shares.
    func fullRate(_ source: Int, _ target: Int) -> Double { min(rates[source], rates[target]) }

    mutating func begin(
        from source: Int,
        to target: Int,
        bytes: Double,
        request: Int,
        purpose: UInt32,
        at t: Double,
        due: inout [Due]
    ) -> Int {
        let transfer = Transfer(
            source: source,
            target: target,
            remaining: bytes,
            rate: 0,
            settled: t,
            version: 0,
            isActive: true,
            request: request,
            purpose: purpose
        )
        let index: Int
        if let slot = free.popLast() {
            index = slot
            let version = transfers[slot].version
            transfers[slot] = transfer
            transfers[slot].version = version
        } else {
            index = transfers.count
            transfers.append(transfer)
        }
        bytesMoved += bytes
        sending[source].append(index)
        receiving[target].append(index)
        share(source, target, at: t, due: &due)
        return index
    }

    /// Ends a transfer, finished or not; the others speed up.
    mutating func end(_ index: Int, at t: Double, due: inout [Due]) {
        guard transfers[index].isActive else { return }
        transfers[index].isActive = false
        transfers[index].version &+= 1
        let (source, target) = (transfers[index].source, transfers[index].target)
        sending[source].removeAll { $0 == index }
        receiving[target].removeAll { $0 == index }
        free.append(index)
        share(source, target, at: t, due: &due)
    }

    /// Recomputes the rates of all that share a line with either pod.
    private mutating func share(_ source: Int, _ target: Int, at t: Double, due: inout [Due]) {
        for index in sending[source] { settle(index, at: t, due: &due) }
        for index in receiving[target] where transfers[index].source != source { settle(index, at: t, due: &due) }
    }

    private mutating func settle(_ index: Int, at t: Double, due: inout [Due]) {
        let (source, target) = (transfers[index].source, transfers[index].target)
        let rate = min(rates[source] / Double(sending[source].count), rates[target] / Double(receiving[target].count))
        guard rate != transfers[index].rate else { return }
        let moved = transfers[index].rate * (t - transfers[index].settled)
        transfers[index].remaining = max(transfers[index].remaining - moved, 0)
        transfers[index].settled = t
        transfers[index].rate = rate
        transfers[index].version &+= 1
        due.append(Due(transfer: index, version: transfers[index].version, at: t + transfers[index].remaining / rate))
    }
}
