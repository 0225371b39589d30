// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Configuration

/// The names of one engine's series as a trie, so that a line is given up at its first byte that no wanted name has
/// there: of vLLM's 700 lines most end within 15 bytes. Immutable; one per engine, shared by all scans.
package final class MetricNameTable: Sendable {
    struct Target: Sendable {
        var quantity: EngineQuantity
        /// 0 is the preferred one of the quantity's selectors.
        var rank: Int
        var labels: [MetricSelector.Label]
        var source: MetricSelector.Source

        var needsLabels: Bool {
            if case .label = source { true } else { !labels.isEmpty }
        }
    }

    /// What a line's beginning turned out to be.
    enum Match {
        /// No wanted name.
        case none
        /// All bytes so far begin a wanted name.
        case undecided
        /// `targets[group]`, and the index of the byte after the name.
        case group(Int, nameEnd: Int)
    }

    package let engine: String
    let targets: [[Target]]
    /// The group of the series that tells of adapters. It has no targets.
    let adapters: Int?
    /// Class of each byte: 0 for bytes that no name has.
    private let classes: [UInt8]
    private let width: Int
    /// `next[node · width + class]`: the following node, 0 for none. The root is node 1.
    private let next: [UInt16]
    /// Index into `targets`, or −1.
    private let groups: [Int]

    package init(_ metrics: EngineMetrics) {
        engine = metrics.engine
        var names: [String] = []
        var groups: [[Target]] = []
        for entry in metrics.entries {
            for (rank, selector) in entry.selectors.enumerated() {
                let target = Target(
                    quantity: entry.quantity,
                    rank: rank,
                    labels: selector.labels,
                    source: selector.source
                )
                if let index = names.firstIndex(of: selector.name) {
                    groups[index].append(target)
                } else {
                    names.append(selector.name)
                    groups.append([target])
                }
            }
        }
        if let series = metrics.adapterSeries, !names.contains(series) {
            adapters = names.count
            names.append(series)
            groups.append([])
        } else {
            adapters = nil
        }
        targets = groups
        var classes = [UInt8](repeating: 0, count: 256)
        var used: UInt8 = 0
        for byte in names.joined().utf8 where classes[Int(byte)] == 0 {
            used += 1
            classes[Int(byte)] = used
        }
        let width = Int(used) + 1
        var next = [UInt16](repeating: 0, count: 2 * width)
        var terminal = [-1, -1]
        for (group, name) in names.enumerated() {
            var node = 1
            for byte in name.utf8 {
                let slot = node * width + Int(classes[Int(byte)])
                // 65,535 nodes are some 300 names of 200 bytes without a common beginning; configuration has fewer.
                if next[slot] == 0, terminal.count <= Int(UInt16.max) {
                    next[slot] = UInt16(terminal.count)
                    terminal.append(-1)
                    next.append(contentsOf: repeatElement(0, count: width))
                }
                node = Int(next[slot])
            }
            if node > 1 { terminal[node] = group }
        }
        self.classes = classes
        self.width = width
        self.next = next
        self.groups = terminal
    }

    func match(_ line: Span<UInt8>) -> Match {
        var node = 1
        for index in line.indices {
            let byte = line[index]
            if byte == UInt8(ascii: "{") || byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") {
                return groups[node] < 0 ? .none : .group(groups[node], nameEnd: index)
            }
            node = Int(next[node * width + Int(classes[Int(byte)])])
            if node == 0 { return .none }
        }
        return .undecided
    }
}
