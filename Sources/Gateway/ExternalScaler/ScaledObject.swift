// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What KEDA scales, and what its trigger says of where to look.
package struct ScaledObject: Sendable, Hashable {
    package var name: String
    package var namespace: String
    package var metadata: [String: String]

    package init(name: String, namespace: String, metadata: [String: String]) {
        self.name = name
        self.namespace = namespace
        self.metadata = metadata
    }
}

/// What an external scaler answers from. Called on a loop's thread: be quick.
package protocol ExternalScalerSource: Sendable {
    /// The metric that the trigger is about, and the value of it that one replica stands for.
    func metric(of object: ScaledObject) throws(GRPCStatus) -> (name: String, target: Double)
    func value(of object: ScaledObject) throws(GRPCStatus) -> Double
    /// Whether there should be any replica.
    func isActive(_ object: ScaledObject) throws(GRPCStatus) -> Bool
}
