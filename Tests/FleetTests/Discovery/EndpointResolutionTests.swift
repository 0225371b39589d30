// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Fleet
import Router
import Testing

@Suite("An endpoint's KV, as engines spell it")
struct EndpointResolutionTests {
    private let catalog = ProfileCatalog(documents: [
        ProfileDocument(connectors: [
            Connector(
                name: "p2p-nccl",
                aliases: ["p2pncclconnector"],
                fixedCost: Seconds(0.01),
                efficiency: 0.7,
                isLayerwise: true,
                allowsUnequalTensorParallel: false
            ),
            Connector(
                name: "nixl",
                aliases: ["nixlconnector"],
                fixedCost: Seconds(0.01),
                efficiency: 0.7,
                isLayerwise: false,
                allowsUnequalTensorParallel: true
            ),
        ])
    ])

    private func pod(_ connector: String?, tensorParallel: Int = 4, kvDtype: String = "auto") -> Endpoint {
        var description = EndpointDescription(
            name: "p",
            role: .both,
            accelerator: "h100-sxm",
            model: "llama-3.1-70b",
            address: "10.0.0.1",
            port: 8000
        )
        description.connector = connector
        description.tensorParallel = tensorParallel
        description.kvDtype = kvDtype
        return catalog.endpoint(description, id: EndpointID(1))
    }

    @Test(arguments: [("NixlConnector", "nixl"), ("P2pNcclConnector", "p2p-nccl"), ("nixl", "nixl")])
    func connectorsHaveOneName(spelled: String, name: String) {
        #expect(pod(spelled).kv.connector == name)
        #expect(pod(nil).kv.connector == nil)
    }

    @Test("Pods of unequal tensor parallelism are no pair over a connector that cannot")
    func theConnectorsEntryIsFound() {
        func link(_ connector: String) -> KVLinks.Link {
            let layouts = [pod(connector, tensorParallel: 4).kv, pod(connector, tensorParallel: 2).kv]
            return KVLinks(layouts: layouts, connectors: catalog.connectors)[0, 1]
        }
        #expect(!link("P2pNcclConnector").isAllowed)
        #expect(link("NixlConnector").isAllowed && link("NixlConnector").repacks)
    }

    @Test(arguments: [
        ("auto", "bfloat16", true), ("fp8", "fp8_e4m3", true), ("fp8_e4m3", "fp8_e5m2", false), ("fp8", "auto", false),
        ("half", "auto", false), ("nvfp4", "nvfp4", true), ("nvfp4", "auto", false),
    ])
    func formatsAreOneOnlyIfTheirBitsAre(_ a: String, _ b: String, areOne: Bool) {
        #expect((pod(nil, kvDtype: a).kv == pod(nil, kvDtype: b).kv) == areOne)
    }
}
