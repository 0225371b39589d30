// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CostModel
internal import Router

extension NetworkTopology {
    /// `network`: a link for each boundary that is named; the others keep their standard.
    static func read(_ value: DocumentValue) -> NetworkTopology? {
        value.object { object in
            var topology = NetworkTopology.standard
            if let link = object.optional("betweenHosts").flatMap(NetworkLink.read) { topology.betweenHosts = link }
            if let link = object.optional("betweenRacks").flatMap(NetworkLink.read) { topology.betweenRacks = link }
            if let link = object.optional("betweenZones").flatMap(NetworkLink.read) { topology.betweenZones = link }
            return topology
        }
    }
}

extension NetworkLink {
    /// Without `gbps`: what the pods' own networks carry.
    static func read(_ value: DocumentValue) -> NetworkLink? {
        value.object { object in
            NetworkLink(
                bytesPerSecond: object.optional("gbps")?.number(in: 0.001...1_000_000).map { $0 * 1e9 / 8 },
                latency: object.duration("latency", in: .zero...Seconds(60), default: .zero)
            )
        }
    }
}
