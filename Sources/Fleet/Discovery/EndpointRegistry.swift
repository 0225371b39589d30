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

    private var ids: [Key: EndpointID] = [:]
    private var next: UInt32 = 0

    package init() {}

    /// The ids of the fleet as it is now, in its order; endpoints that are not named any more are forgotten.
    package mutating func ids(for fleet: [EndpointDescription]) -> [EndpointID] {
        var current: [Key: EndpointID] = [:]
        let result = fleet.map { endpoint in
            let key = Key(name: endpoint.name, address: endpoint.address, port: endpoint.port)
            let id = current[key] ?? ids[key] ?? fresh()
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
