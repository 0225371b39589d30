// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Autoscaling
import Gateway
import Router
import Telemetry

/// Answers KEDA from the last report.
struct ScalerSource: ExternalScalerSource {
    let report: @Sendable () -> ScalingReport

    func metric(of object: ScaledObject) throws(GRPCStatus) -> (name: String, target: Double) {
        _ = try Self.query(object)
        let text = object.metadata["targetValue"] ?? "1"
        guard let target = Double(text), target.isFinite, target > 0 else {
            throw GRPCStatus(.invalidArgument, "targetValue must be a number above 0, not \(text)")
        }
        return (try Self.family(object).name, target)
    }

    func value(of object: ScaledObject) throws(GRPCStatus) -> Double {
        let family = try Self.family(object)
        return family.value(of: try Self.query(object), in: report())
    }

    func isActive(_ object: ScaledObject) throws(GRPCStatus) -> Bool {
        _ = try Self.family(object)
        return report().isActive(try Self.query(object))
    }

    private static func family(_ object: ScaledObject) throws(GRPCStatus) -> MetricFamily {
        let name = object.metadata["metric"] ?? ScalingFamilies.desiredReplicas.name
        guard let family = ScalingFamilies.ofGroups.first(where: { $0.name == name }) else {
            throw GRPCStatus(.invalidArgument, "no metric \(name)")
        }
        return family
    }

    private static func query(_ object: ScaledObject) throws(GRPCStatus) -> ScalingQuery {
        var query = ScalingQuery()
        query.pool = object.metadata["pool"]
        query.accelerator = object.metadata["accelerator"]
        query.model = object.metadata["model"]
        if let text = object.metadata["role"] {
            guard let role = Role(rawValue: text) else {
                throw GRPCStatus(.invalidArgument, "role must be prefill, decode or both, not \(text)")
            }
            query.role = role
        }
        return query
    }
}

extension MetricFamily {
    /// One number for several groups: shares are those of the busiest group, everything else adds up.
    func value(of query: ScalingQuery, in report: ScalingReport) -> Double {
        let groups = report.groups(query)
        // Never seen, for there was no pod yet: one is wanted while requests wait.
        if groups.isEmpty, self == ScalingFamilies.desiredReplicas { return report.held > 0 ? 1 : 0 }
        let values = groups.compactMap(value)
        return name.hasSuffix("_ratio") ? values.max() ?? 0 : values.reduce(0, +)
    }
}
