// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Router

/// Gives endpoints their ids. An endpoint keeps its id while its name, address and port stay; one that comes back
/// after it left gets a new one, so that knowledge of its former life cannot reach it.
package struct EndpointRegistry: Sendable {
    private struct Key: Hashable {
        var name: String
        var address: String
        var port: UInt16
    }

    /// An endpoint that an earlier process knew by this id.
    package struct Known: Sendable, Hashable, Codable {
        package var name: String
        package var address: String
        package var port: UInt16
        package var id: UInt32

        package init(name: String, address: String, port: UInt16, id: UInt32) {
            self.name = name
            self.address = address
            self.port = port
            self.id = id
        }
    }

    private var ids: [Key: EndpointID] = [:]
    /// Not yet seen again.
    private var former: [Key: EndpointID] = [:]
    private var next: UInt32 = 0

    /// Endpoints that an earlier process knew get their ids again when they are first seen; others get none of those.
    package init(resuming known: [Known] = []) {
        for endpoint in known where endpoint.id < Self.mostResumed {
            former[Key(name: endpoint.name, address: endpoint.address, port: endpoint.port)] = EndpointID(endpoint.id)
            next = max(next, endpoint.id + 1)
        }
    }

    /// Ids count up by one for each endpoint that comes: half of them are never used up.
    private static let mostResumed: UInt32 = 1 << 31

    /// The ids of the fleet as it is now, in its order; endpoints that are not named any more are forgotten.
    package mutating func ids(for fleet: [EndpointDescription]) -> [EndpointID] {
        var current: [Key: EndpointID] = [:]
        let result = fleet.map { endpoint in
            let key = Key(name: endpoint.name, address: endpoint.address, port: endpoint.port)
            let id = current[key] ?? ids[key] ?? former.removeValue(forKey: key) ?? fresh()
            current[key] = id
            return id
        }
        ids = current
        return result
    }

    private mutating func fresh() -> EndpointID {
        let id = EndpointID(next)
        next &+= 1
        return id
    }
}
