// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Autoscaling
import Foundation
import Gateway
import Kubernetes
import Telemetry

/// `external.metrics.k8s.io/v1beta1`, as the API server's aggregation layer asks for it (k8s.io/metrics,
/// pkg/apis/external_metrics/v1beta1): discovery, and one metric's values by label selector. Pure.
///
/// Where pods come from a cluster they lie in one namespace, and so do the Deployments and HPAs that scale them: an HPA of
/// another namespace finds nothing, for what it may read should not be told by the picker's place. A fleet file has no namespace.
struct ExternalMetricsAPI {
    private static let group = "external.metrics.k8s.io"
    private static let version = "v1beta1"
    private static let groupVersion = "\(group)/\(version)"

    let report: ScalingReport
    /// The namespace of the pods; nil where they have none.
    var namespace: String?
    /// Microseconds since 1970.
    let time: Int64

    func page(path target: String) -> HTTPPage {
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let steps = (parts.first ?? "").split(separator: "/").map { String($0).removingPercentEncoding ?? String($0) }
        switch steps {
        case ["apis"]: return Self.page(Discovery.GroupList())
        case ["apis", Self.group]: return Self.page(Discovery.Group(kind: "APIGroup", apiVersion: "v1"))
        case ["apis", Self.group, Self.version]: return Self.page(Discovery.Resources())
        case ["healthz"], ["livez"], ["readyz"]:
            return HTTPPage(status: 200, contentType: "text/plain", body: Array("ok".utf8))
        default: break
        }
        guard steps.count == 6, Array(steps.prefix(4)) == ["apis", Self.group, Self.version, "namespaces"] else {
            return Self.failure(404, "NotFound", "the server could not find the requested resource")
        }
        guard let family = ScalingFamilies.ofGroups.first(where: { $0.name == steps[5] }) else {
            return Self.failure(404, "NotFound", "no external metric \(steps[5])")
        }
        let query = parts.count > 1 ? String(parts[1]) : ""
        guard let selector = Self.selector(query) else {
            return Self.failure(400, "BadRequest", "the labelSelector cannot be understood")
        }
        guard namespace == nil || namespace == steps[4] else { return Self.page(ValueList(items: [])) }
        return values(family, selector)
    }

    private static func selector(_ query: String) -> LabelSelector? {
        for pair in query.split(separator: "&") {
            let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard sides.count == 2, sides[0] == "labelSelector" else { continue }
            guard let text = String(sides[1]).replacing("+", with: " ").removingPercentEncoding else { return nil }
            return LabelSelector(text)
        }
        return LabelSelector("")
    }

    private func values(_ family: MetricFamily, _ selector: LabelSelector) -> HTTPPage {
        let timestamp = String(MicroTime.text(time).prefix(19)) + "Z"
        var items: [ValueList.Item] = []
        for group in report.groups {
            let labels = Dictionary(
                zip(ScalingFamilies.labels, group.group.labelValues),
                uniquingKeysWith: { first, _ in first }
            )
            guard selector.matches(labels), let value = family.value(of: group) else { continue }
            items.append(
                ValueList.Item(
                    metricName: family.name,
                    metricLabels: labels,
                    timestamp: timestamp,
                    value: Self.quantity(value)
                )
            )
        }
        // A group that was never seen, for it has no pod yet: one is wanted while requests wait. An empty list would be an
        // error to the HPA.
        if items.isEmpty, family == ScalingFamilies.desiredReplicas, !selector.fixed.isEmpty {
            items = [
                ValueList.Item(
                    metricName: family.name,
                    metricLabels: selector.fixed,
                    timestamp: timestamp,
                    value: report.held > 0 ? "1" : "0"
                )
            ]
        }
        return Self.page(ValueList(items: items))
    }

    /// A Kubernetes quantity, in thousandths where it is not whole.
    static func quantity(_ value: Double) -> String {
        guard value.isFinite else { return "0" }
        let bounded = min(max(value, -1e12), 1e12)
        if bounded == bounded.rounded() { return "\(Int64(bounded))" }
        return "\(Int64((bounded * 1000).rounded()))m"
    }

    private static func page(_ document: some Encodable, status: Int = 200) -> HTTPPage {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let body = (try? encoder.encode(document)).map(Array.init) ?? []
        return HTTPPage(status: body.isEmpty ? 500 : status, contentType: "application/json", body: body)
    }

    private static func failure(_ code: Int, _ reason: String, _ message: String) -> HTTPPage {
        page(Failure(message: message, reason: reason, code: code), status: code)
    }

    // MARK: Documents

    private struct ValueList: Encodable {
        struct Metadata: Encodable {}
        struct Item: Encodable {
            var metricName: String
            var metricLabels: [String: String]
            var timestamp: String
            var value: String
        }

        var kind = "ExternalMetricValueList"
        var apiVersion = ExternalMetricsAPI.groupVersion
        var metadata = Metadata()
        var items: [Item]
    }

    private struct Failure: Encodable {
        var kind = "Status"
        var apiVersion = "v1"
        var status = "Failure"
        var message: String
        var reason: String
        var code: Int
    }

    private enum Discovery {
        struct Version: Encodable {
            var groupVersion = ExternalMetricsAPI.groupVersion
            var version = ExternalMetricsAPI.version
        }

        struct Group: Encodable {
            var kind: String?
            var apiVersion: String?
            var name = ExternalMetricsAPI.group
            var versions = [Version()]
            var preferredVersion = Version()
        }

        struct GroupList: Encodable {
            var kind = "APIGroupList"
            var apiVersion = "v1"
            var groups = [Group()]
        }

        struct Resource: Encodable {
            var name: String
            var singularName = ""
            var namespaced = true
            var kind = "ExternalMetricValueList"
            var verbs = ["get"]
        }

        struct Resources: Encodable {
            var kind = "APIResourceList"
            var apiVersion = "v1"
            var groupVersion = ExternalMetricsAPI.groupVersion
            var resources = ScalingFamilies.ofGroups.map { Resource(name: $0.name) }
        }
    }
}
