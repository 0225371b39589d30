// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
package import Router

/// A policy under test. It hears what a picker hears, and says what a picker says.
package protocol SimulatedPolicy: AnyObject {
    /// Takes one event at `now`, and appends what is to be done.
    func handle(_ event: RouterEvent, at now: Instant, into actions: inout [RouterAction])
    /// What it was set to, for the report.
    var parameters: [String: String] { get }
}
