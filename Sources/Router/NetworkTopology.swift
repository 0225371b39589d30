// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Where a pod stands, as its labels and its node's name it. nil = nobody says.
package struct Location: Sendable, Hashable, Codable {
    package var zone: String?
    package var rack: String?
    package var host: String?

    /// The plain names come first: a fleet file needs no others. The rest are those of Kubernetes, and of clouds that tell
    /// their networks' layers, where the layer next to the host stands for the rack.
    package static let zoneLabels = ["zone", "topology.kubernetes.io/zone"]
    package static let rackLabels = [
        "rack", "topology.kubernetes.io/rack", "cloud.google.com/gce-topology-subblock",
        "topology.k8s.aws/network-node-layer-3",
    ]
    package static let hostLabels = ["host", "kubernetes.io/hostname"]

    package init(labels: [String: String]) {
        func first(_ names: [String]) -> String? {
            names.lazy.compactMap { labels[$0] }.first { !$0.isEmpty }
        }
        zone = first(Self.zoneLabels)
        rack = first(Self.rackLabels)
        host = first(Self.hostLabels)
    }

    package var isKnown: Bool { zone != nil || rack != nil || host != nil }
}

/// The same with numbers for names, so that a decision compares no text. -1 = nobody says.
package struct PodPlace: Sendable, Hashable, Codable {
    package var zone: Int32
    package var rack: Int32
    package var host: Int32

    package init(zone: Int32 = -1, rack: Int32 = -1, host: Int32 = -1) {
        self.zone = zone
        self.rack = rack
        self.host = host
    }
}

/// Gives names of places their numbers, in the order of their coming.
package struct PlaceNumbers {
    private var zones: [String: Int32] = [:]
    private var racks: [String: Int32] = [:]
    private var hosts: [String: Int32] = [:]

    package init() {}

    /// nil where nothing is known of the place.
    package mutating func place(_ location: Location) -> PodPlace? {
        guard location.isKnown else { return nil }
        return PodPlace(
            zone: Self.number(location.zone, &zones),
            rack: Self.number(location.rack, &racks),
            host: Self.number(location.host, &hosts)
        )
    }

    private static func number(_ name: String?, _ known: inout [String: Int32]) -> Int32 {
        guard let name else { return -1 }
        if let number = known[name] { return number }
        let number = Int32(truncatingIfNeeded: known.count)
        known[name] = number
        return number
    }
}

/// The widest boundary between two pods.
package enum NetworkSpan: String, Sendable, Hashable, Codable, CaseIterable {
    case hosts = "between hosts"
    case racks = "between racks"
    case zones = "between zones"

    /// nil where they stand together, as far as anybody says: what is unknown is no boundary.
    @inline(__always)
    package init?(between a: PodPlace?, and b: PodPlace?) {
        guard let a, let b else { return nil }
        func differ(_ x: Int32, _ y: Int32) -> Bool { x >= 0 && y >= 0 && x != y }
        if differ(a.zone, b.zone) {
            self = .zones
        } else if differ(a.rack, b.rack) {
            self = .racks
        } else if differ(a.host, b.host) {
            self = .hosts
        } else {
            return nil
        }
    }
}

/// What a transfer of KV meets at a boundary.
package struct NetworkLink: Sendable, Hashable, Codable {
    /// What one transfer gets, after the protocol's losses. nil: as much as the pods' own networks carry.
    package var bytesPerSecond: Double?
    /// Seconds that each transfer takes longer.
    package var latency: Seconds

    package init(bytesPerSecond: Double? = nil, latency: Seconds = .zero) {
        self.bytesPerSecond = bytesPerSecond
        self.latency = latency
    }
}

/// The links between pods that stand apart, by the widest boundary between them. A boundary without a link of its own has that
/// of the next narrower one, which is crossed on the way.
package struct NetworkTopology: Sendable, Hashable, Codable {
    package var betweenHosts: NetworkLink?
    package var betweenRacks: NetworkLink?
    package var betweenZones: NetworkLink?

    package init(
        betweenHosts: NetworkLink? = nil,
        betweenRacks: NetworkLink? = nil,
        betweenZones: NetworkLink? = nil
    ) {
        self.betweenHosts = betweenHosts
        self.betweenRacks = betweenRacks
        self.betweenZones = betweenZones
    }

    /// Every pair has what its pods' own networks carry.
    package static let flat = NetworkTopology()

    /// Fabrics with remote memory access end at the zone; what is left is routed TCP over the hosts' ordinary network. 25 Gbit/s
    /// is the slowest such line that accelerator hosts have today, 2 ms the most that clouds promise between zones of a region.
    /// Cautious on purpose, until the configuration says better.
    package static let standard = NetworkTopology(
        betweenZones: NetworkLink(bytesPerSecond: 25e9 / 8, latency: Seconds(0.002))
    )

    package func link(_ span: NetworkSpan) -> NetworkLink {
        switch span {
        case .hosts: return betweenHosts ?? NetworkLink()
        case .racks: return betweenRacks ?? link(.hosts)
        case .zones: return betweenZones ?? link(.racks)
        }
    }
}
