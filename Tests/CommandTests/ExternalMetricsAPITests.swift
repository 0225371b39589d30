// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Autoscaling
import Foundation
import Gateway
import Router
import Testing

@testable import epp_pd

@Suite struct ExternalMetricsAPITests {
    private static let report: ScalingReport = {
        var report = ScalingReport()
        for (role, desired) in [(Role.decode, 4), (.prefill, 2)] {
            var group = GroupReport(group: PodGroup(pool: "p", role: role, accelerator: "h100-sxm", model: "org/m-8b"))
            group.desiredReplicas = desired
            group.utilization = 0.8125
            report.groups.append(group)
        }
        return report
    }()

    private func get(_ path: String, _ report: ScalingReport = report) throws -> (status: Int, body: [String: Any]) {
        let page = ExternalMetricsAPI(report: report, time: 1_763_677_526_123_456).page(path: path)
        let body = try JSONSerialization.jsonObject(with: Data(page.body)) as? [String: Any]
        #expect(page.contentType == "application/json")
        return (page.status, body ?? [:])
    }

    private static let metric = "epp_pd_autoscaling_desired_replicas"
    private static let root = "/apis/external.metrics.k8s.io/v1beta1"

    @Test("Discovery names the group, the version and every metric")
    func discovery() throws {
        let groups = try get("/apis")
        #expect(groups.body["kind"] as? String == "APIGroupList")
        let group = try get("/apis/external.metrics.k8s.io")
        #expect(group.body["kind"] as? String == "APIGroup")
        #expect((group.body["preferredVersion"] as? [String: String])?["version"] == "v1beta1")
        let list = try get(Self.root)
        #expect(list.body["kind"] as? String == "APIResourceList")
        let resources = list.body["resources"] as? [[String: Any]] ?? []
        #expect(resources.contains { $0["name"] as? String == Self.metric && $0["namespaced"] as? Bool == true })
        #expect(resources.allSatisfy { $0["kind"] as? String == "ExternalMetricValueList" })
    }

    private func values(_ selector: String, metric: String = metric) throws -> [String] {
        let answer = try get("\(Self.root)/namespaces/ns/\(metric)?labelSelector=\(selector)")
        #expect(answer.status == 200 && answer.body["kind"] as? String == "ExternalMetricValueList")
        let items = answer.body["items"] as? [[String: Any]] ?? []
        #expect(items.allSatisfy { $0["timestamp"] as? String == "2025-11-20T22:25:26Z" })
        return items.compactMap { $0["value"] as? String }
    }

    @Test("A list holds what the label selector selects")
    func selectors() throws {
        #expect(try values("") == ["4", "2"])
        #expect(try values("pool%3Dp%2Crole%3Dprefill") == ["2"])
        #expect(try values("role+in+%28prefill%2Cboth%29") == ["2"])
        #expect(try values("role+notin+%28prefill%29") == ["4"])
        #expect(try values("role%21%3Dprefill") == ["4"])
        #expect(try values("model%3Dorg%2Fm-8b,pool") == ["4", "2"])
        #expect(try values("%21pool") == [])
        #expect(try values("pool%3Dp", metric: "epp_pd_autoscaling_utilization_ratio") == ["813m", "813m"])
    }

    @Test("An HPA of another namespace than the pods' finds nothing")
    func namespaces() throws {
        let api = ExternalMetricsAPI(report: Self.report, namespace: "inference", time: 0)
        for (namespace, count) in [("inference", 2), ("default", 0), ("", 0)] {
            let page = api.page(path: "\(Self.root)/namespaces/\(namespace)/\(Self.metric)")
            let body = try JSONSerialization.jsonObject(with: Data(page.body)) as? [String: Any]
            // Of an empty step there is no path.
            #expect(page.status == (namespace.isEmpty ? 404 : 200))
            #expect((body?["items"] as? [Any])?.count ?? 0 == count, "\(namespace)")
        }
    }

    @Test("A group that was never seen wants a pod while requests wait")
    func fromZero() throws {
        #expect(try values("pool%3Dother") == ["0"])
        var waiting = Self.report
        waiting.held = 2
        let path = "\(Self.root)/namespaces/ns/\(Self.metric)?labelSelector=pool%3Dother"
        let items = try get(path, waiting).body["items"] as? [[String: Any]]
        #expect(items?.first?["value"] as? String == "1")
    }

    @Test(
        "What does not exist, or cannot be understood, is a Status",
        arguments: [
            ("\(root)/namespaces/ns/cpu", 404), ("\(root)/namespaces/ns", 404), ("/api/v1/pods", 404), ("", 404),
            ("\(root)/namespaces/ns/\(metric)?labelSelector=%zz", 400),
            ("\(root)/namespaces/ns/\(metric)?labelSelector=a%3Db%3Dc", 400),
            ("\(root)/namespaces/ns/\(metric)?labelSelector=a+in+%28b", 400),
        ] as [(String, Int)]
    )
    func failures(path: String, status: Int) throws {
        let answer = try get(path)
        #expect(answer.status == status)
        #expect(answer.body["kind"] as? String == "Status" && answer.body["code"] as? Int == status)
    }

    @Test("Quantities are whole numbers or thousandths")
    func quantities() {
        #expect(ExternalMetricsAPI.quantity(3) == "3")
        #expect(ExternalMetricsAPI.quantity(0.0005) == "1m")
        #expect(ExternalMetricsAPI.quantity(1234.5678) == "1234568m")
        #expect(ExternalMetricsAPI.quantity(.nan) == "0")
        #expect(ExternalMetricsAPI.quantity(1e300) == "1000000000000")
    }
}
