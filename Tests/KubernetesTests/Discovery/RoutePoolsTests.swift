// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FoundationEssentials
import Testing

@testable import Kubernetes

@Suite("Pools by the Service that a gateway asks")
struct RoutePoolsTests {
    static func routes(_ pools: [(name: String, picker: String?)]) -> RoutePools {
        RoutePools(pools.map { ClusterState.Pool(name: $0.name, picker: $0.picker) }, namespace: "inference")
    }

    static let two = routes([("small", "epp-small"), ("large", "epp-large"), ("prefill", "epp-small")])

    @Test(
        "Every way in which gateways name the Service",
        arguments: [
            "outbound|9002||epp-large.inference.svc.cluster.local", "epp-large.inference.svc.cluster.local:9002",
            "epp-large.inference.svc:9002", "epp-large.inference.svc", "epp-large", "epp-large:9002",
        ]
    )
    func forms(_ authority: String) { #expect(Self.two.pool(asked: authority) == "large") }

    @Test(
        "What names none of the Services says nothing",
        arguments: [
            "", "|", ":", "outbound|9002||", "epp", "epp-large.other.svc:9002", "10.0.0.7:9002", "large.epp-large",
            "epp-large-2.inference.svc", "[::1]:9002",
        ]
    )
    func foreign(_ authority: String) { #expect(Self.two.pool(asked: authority) == nil) }

    @Test("Of the pools that name one Service the first has it, and one Service for all tells nothing")
    func shared() {
        #expect(Self.two.pool(asked: "epp-small.inference.svc:9002") == "small")
        let same = Self.routes([("decode", "epp"), ("prefill", "epp"), ("old", nil)])
        #expect(same.pool(asked: "epp.inference.svc:9002") == nil)
        #expect(same == Self.routes([]))
    }

    @Test(
        "The pool's reference, in both versions",
        arguments: [
            (#""endpointPickerRef":{"name":"epp","port":{"number":9002}}"#, "epp"),
            (#""endpointPickerRef":{"group":"","kind":"Service","name":"epp","port":{"number":9002}}"#, "epp"),
            (#""extensionRef":{"name":"epp","portNumber":9002}"#, "epp"),
            (#""endpointPickerRef":{"group":"example.org","kind":"Picker","name":"epp"}"#, nil),
            (#""endpointPickerRef":null"#, nil), (#""status":{}"#, nil),
        ] as [(String, String?)]
    )
    func reference(_ field: String, _ service: String?) throws {
        let text = """
            {"metadata":{"name":"p","namespace":"inference"},\
            "spec":{"selector":{"matchLabels":{"a":"b"}},"targetPorts":[{"number":8000}],\(field)}}
            """
        let pool = try JSONDecoder().decode(InferencePool.self, from: Data(text.utf8))
        #expect(pool.picker == service)
    }
}
