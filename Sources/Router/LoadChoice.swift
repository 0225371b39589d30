// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Where a request without an inference goes: the pod with the fewest requests, a draw among equals. There is nothing to
/// predict for such a request, and the candidates must still not all get the same one.
package struct LoadChoice: Sendable, Hashable, Codable {
    /// Requests on each pod, in the order of the fleet; nil where it is no candidate.
    package var loads: [Double?]
    package var draw: UInt64

    /// The place in `loads`; nil where nothing is a candidate.
    package var choice: Int? {
        guard let least = loads.compactMap({ $0 }).min() else { return nil }
        let equals = loads.indices.filter { loads[$0] == least }
        return equals[Int(draw % UInt64(equals.count))]
    }
}
