// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import Kubernetes

@Suite("Cluster")
struct ClusterMachineTests {
    /// A machine whose requests are answered from a table of paths.
    struct Rig {
        var machine: ClusterMachine
        var now = 0.0
        var open: [String: Int] = [:]

        init(_ pods: ClusterSelection.Pods) {
            machine = ClusterMachine(ClusterSelection(pods: pods, namespace: "default"), seed: 3)
        }

        /// Answers every list; watches stay open, by the last word of their path and their selector.
        mutating func settle(_ answers: [String: String]) {
            for _ in 0..<20 {
                let sent = machine.requests(at: now)
                if sent.isEmpty { return }
                for sending in sent {
                    let kind = String(sending.request.path.split(separator: "/").dropFirst().joined(separator: "/"))
                    let selector = sending.request.query.first { $0.name == "labelSelector" }?.value ?? ""
                    if sending.request.query.contains(where: { $0.name == "watch" }) {
                        open[kind + selector] = sending.tag
                        continue
                    }
                    let body = answers[kind + selector] ?? answers[kind]
                    _ = machine.received(
                        sending.tag,
                        Array((body ?? "404 page not found").utf8),
                        status: body == nil ? 404 : 200
                    )
                    _ = machine.ended(
                        sending.tag,
                        status: body == nil ? 404 : 200,
                        retryAfter: nil,
                        failure: nil,
                        at: now
                    )
                }
            }
        }

        mutating func tell(_ watch: String, _ line: String) {
            if let tag = open[watch] { _ = machine.received(tag, Array((line + "\n").utf8), status: 200) }
        }
    }

    static let pools = "inference.networking.k8s.io/v1/namespaces/default/inferencepools"
    static let pods = "v1/namespaces/default/pods"

    static func list(_ items: [String]) -> String {
        "{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[\(items.joined(separator: ","))]}"
    }

    static func pool(_ name: String, app: String, port: Int = 8000) -> String {
        """
        {"metadata":{"name":"\(name)","namespace":"default","resourceVersion":"6"},"spec":{"selector":{"matchLabels":\
        {"app":"\(app)"}},"targetPorts":[{"number":\(port)}]}}
        """
    }

    static func pod(_ name: String) -> String {
        "{\"metadata\":{\"name\":\"\(name)\",\"namespace\":\"default\"},\"spec\":{\"containers\":[]}}"
    }

    @Test("Pods follow from the pools; a new selector takes over once it is listed")
    func selectors() {
        var rig = Rig(.pools(["p", "q"]))
        rig.settle([
            Self.pools: Self.list([Self.pool("p", app: "a")]), Self.pods + "app=a": Self.list([Self.pod("x")]),
            "v1/nodes": Self.list([]),
        ])
        #expect(rig.machine.isSynced)
        #expect(rig.machine.state.pools.map { $0.pods.map(\.metadata.name) } == [["x"], []])
        #expect(rig.machine.state.pools[1].trouble == "there is no InferencePool default/q")
        rig.tell(Self.pools, "{\"type\":\"MODIFIED\",\"object\":\(Self.pool("p", app: "b"))}")
        let before = rig.machine.revision
        let sent = rig.machine.requests(at: 0)
        #expect(sent.count == 1)
        // Until the new list is there, the old pods stay.
        #expect(rig.machine.state.pools[0].pods.map(\.metadata.name) == ["x"])
        _ = rig.machine.received(sent[0].tag, Array(Self.list([Self.pod("y")]).utf8), status: 200)
        _ = rig.machine.ended(sent[0].tag, status: 200, retryAfter: nil, failure: nil, at: 0)
        _ = rig.machine.requests(at: 0)
        #expect(rig.machine.state.pools[0].pods.map(\.metadata.name) == ["y"])
        #expect(rig.machine.revision != before)
        // What the old watch still sends is of no use.
        if let old = rig.open[Self.pods + "app=a"] {
            let goesOn = rig.machine.received(old, Array("{}".utf8), status: 200)
            #expect(!goesOn)
        }
        rig.tell(Self.pools, "{\"type\":\"DELETED\",\"object\":\(Self.pool("p", app: "b"))}")
        _ = rig.machine.requests(at: 0)
        #expect(rig.machine.state.pools[0].pods.isEmpty)
        #expect(rig.machine.state.pools[0].ports == nil)
    }

    @Test("Without CRDs a selector serves; without nodes it serves too")
    func selectorAlone() {
        var rig = Rig(.selector("app=a", ports: [8000, 8001]))
        rig.settle([Self.pods: Self.list([Self.pod("x")])])
        #expect(rig.machine.isSynced)
        #expect(rig.machine.state.pools.map(\.ports) == [[8000, 8001]])
        #expect(rig.machine.reports.filter { $0.standing == .absent }.count == 5)
        // Every API server has nodes: who says otherwise is none.
        #expect(rig.machine.reports.filter(\.standing.isTrouble).map(\.kind) == ["nodes"])
    }

    @Test("Without the CRD of pools it is said")
    func noPools() {
        var rig = Rig(.pools(["p"]))
        rig.settle(["v1/nodes": Self.list([])])
        #expect(rig.machine.isSynced)
        #expect(rig.machine.state.pools[0].trouble?.contains("CRD is not installed") == true)
    }
}
