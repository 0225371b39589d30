// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
package import Router

/// What one replica of the picker knows of its own work: lower bounds of what the fleet has to do.
package struct OwnWork: Sendable {
    package struct Pod: Sendable, Hashable {
        package var inFlight: Int
        /// Predicted seconds until a prompt sent now could start.
        package var backlog: Seconds

        package init(inFlight: Int, backlog: Seconds) {
            self.inFlight = inFlight
            self.backlog = backlog
        }
    }

    package var pods: [EndpointID: Pod]
    /// Requests that wait in the picker.
    package var held: Int
    /// Whether no other replica holds requests too: one leads, or there is one. Otherwise they raise a need only where
    /// there is no pod at all: the others do not see them.
    package var isWhole: Bool

    package init(pods: [EndpointID: Pod] = [:], held: Int = 0, isWhole: Bool = true) {
        self.pods = pods
        self.held = held
        self.isWhole = isWhole
    }
}
