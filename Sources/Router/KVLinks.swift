// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Which KV layouts can exchange KV and how, as a square matrix over the distinct layouts of a fleet.
package struct KVLinks: Sendable {
    package struct Link: Sendable {
        package var isAllowed: Bool
        /// Tensor parallelism differs: the receiver rearranges what arrives.
        package var repacks: Bool
        package var isLayerwise: Bool
        package var fixedCost: Seconds
        /// Seconds beyond it that were learned of this very pair of pods.
        package var learnedCost = 0.0
        /// What the way between the two pods carries at most, their own networks aside.
        package var bytesPerSecond = Double.infinity

        static let forbidden = Link(isAllowed: false, repacks: false, isLayerwise: false, fixedCost: .zero)
    }

    /// Distinct layouts. What a fleet has beyond pairs with nothing: the matrix stays below a megabyte.
    package static let maximumLayouts = 128

    package private(set) var layouts: [KVLayout]
    package let network: NetworkTopology
    private let hosts: Way
    private let racks: Way
    private let zones: Way

    /// A link of the network, ready for arithmetic.
    private struct Way {
        var bytesPerSecond: Double
        var latency: Double

        init(_ link: NetworkLink) {
            bytesPerSecond = link.bytesPerSecond ?? .infinity
            latency = max(link.latency.rawValue, 0)
        }
    }

    private var links: [Link] = []
    /// No transfer costs less than this.
    package private(set) var leastFixedCost = 0.0
    /// No connector hides a transfer behind prefill.
    package private(set) var areSerial = true

    /// `connectors`: what is known of the connectors that layouts name.
    package init(layouts: [KVLayout], connectors: [Connector], network: NetworkTopology = .flat) {
        self.network = network
        hosts = Way(network.link(.hosts))
        racks = Way(network.link(.racks))
        zones = Way(network.link(.zones))
        let kept = Array(layouts.prefix(Self.maximumLayouts))
        self.layouts = kept
        links.reserveCapacity(kept.count * kept.count)
        for p in kept {
            for d in kept { links.append(Self.link(p, d, connectors)) }
        }
        areSerial = !links.contains { $0.isAllowed && $0.isLayerwise }
        leastFixedCost = links.lazy.filter(\.isAllowed).map(\.fixedCost.rawValue).min() ?? 0
    }

    /// What bounds every link's cost from below.
    struct Bound {
        var leastFixedCost: Double
        var areSerial: Bool
    }

    /// `extra`: the least that was learned of any pair, beyond what is known of its link.
    func bound(lowered extra: Double) -> Bound {
        Bound(leastFixedCost: max(leastFixedCost + min(extra, 0), 0), areSerial: areSerial)
    }

    @inline(__always)
    package subscript(_ p: Int, _ d: Int) -> Link {
        guard p >= 0, d >= 0, p < layouts.count, d < layouts.count else { return .forbidden }
        return links[p &* layouts.count &+ d]
    }

    /// The link between two layouts where they stand. Never cheaper than without the places: lower bounds need none.
    @inline(__always)
    package func link(_ p: Int, at a: PodPlace?, _ d: Int, at b: PodPlace?) -> Link {
        var link = self[p, d]
        guard let span = NetworkSpan(between: a, and: b) else { return link }
        let way =
            switch span {
            case .hosts: hosts
            case .racks: racks
            case .zones: zones
            }
        link.bytesPerSecond = way.bytesPerSecond
        link.fixedCost += Seconds(way.latency)
        return link
    }

    private static func link(_ p: KVLayout, _ d: KVLayout, _ connectors: [Connector]) -> Link {
        let connector = connector(of: p, d, connectors)
        guard case .compatible(let repacks) = KVCompatibility(prefill: p, decode: d, connector: connector) else {
            return .forbidden
        }
        return Link(
            isAllowed: true,
            repacks: repacks,
            isLayerwise: connector.isLayerwise,
            fixedCost: max(connector.fixedCost, .zero)
        )
    }

    private static func connector(of p: KVLayout, _ d: KVLayout, _ connectors: [Connector]) -> Connector {
        guard let name = p.connector ?? d.connector else { return .unknown }
        return connectors.first { $0.name == name || $0.aliases.contains(name) } ?? .unknown
    }

    /// Why KV cannot move between these layouts, for people. nil = it can.
    package static func mismatch(_ p: KVLayout, _ d: KVLayout, connectors: [Connector]) -> KVMismatch? {
        let connector = connector(of: p, d, connectors)
        guard case .incompatible(let why) = KVCompatibility(prefill: p, decode: d, connector: connector) else {
            return nil
        }
        return why
    }
}
