// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Autoscaling
import CostModel
import Router

extension MetricFamily {
    /// What a group's report says under this name. nil where it is not known, and for other names.
    package func value(of report: GroupReport) -> Double? {
        switch self {
        case ScalingFamilies.desiredReplicas: Double(report.desiredReplicas)
        case ScalingFamilies.replicas: Double(report.replicas)
        case ScalingFamilies.backlog: report.backlog.rawValue
        case ScalingFamilies.utilization: report.utilization
        case ScalingFamilies.headroom: report.headroom
        case ScalingFamilies.kvUse: report.kvUse
        case ScalingFamilies.promptRate: report.promptTokensPerSecond
        case ScalingFamilies.outputRate: report.outputTokensPerSecond
        case ScalingFamilies.inFlight: Double(report.requestsInFlight)
        case ScalingFamilies.attainment: report.attainment
        default: nil
        }
    }
}

extension PodGroup {
    /// Values of `ScalingFamilies.labels`.
    package var labelValues: [String] { [pool, role.rawValue, accelerator, model] }
}

/// The part of the page that sizes the fleet.
enum ScalingPage {
    private typealias F = ScalingFamilies

    static func render(_ report: ScalingReport, _ page: inout Exposition) {
        for family in F.ofGroups {
            page.begin(family)
            for group in report.groups {
                if let value = family.value(of: group) { page.sample(family, group.group.labelValues, value) }
            }
        }
        page.begin(F.poolKVUse)
        for pool in report.pools { if let use = pool.kvUse { page.sample(F.poolKVUse, [pool.pool], use) } }
        page.begin(F.poolQueue)
        for pool in report.pools { if let size = pool.queueSize { page.sample(F.poolQueue, [pool.pool], size) } }
        page.begin(F.podQueue)
        for pool in report.pools {
            for pod in pool.pods { page.sample(F.podQueue, [pool.pool, pod.name], pod.waiting) }
        }
        page.begin(F.readyPods)
        for pool in report.pools { page.sample(F.readyPods, [pool.pool], pool.readyPods) }
    }
}
