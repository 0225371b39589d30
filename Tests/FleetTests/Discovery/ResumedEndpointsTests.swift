// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router
import Testing

@testable import Fleet

@Suite("Endpoints of an earlier process")
struct ResumedEndpointsTests {
    private static func endpoint(_ name: String, _ port: UInt16 = 8_000) -> EndpointDescription {
        EndpointDescription(
            name: name,
            role: .both,
            accelerator: "h100-sxm",
            model: "m",
            address: "10.0.0.1",
            port: port
        )
    }

    @Test("an endpoint of an earlier process has its id again, once; nobody else gets it")
    func resumed() {
        var registry = EndpointRegistry(resuming: [
            .init(name: "a", address: "10.0.0.1", port: 8_000, id: 7),
            .init(name: "b", address: "10.0.0.1", port: 8_000, id: 3),
            .init(name: "far", address: "10.0.0.1", port: 8_000, id: .max),
        ])
        #expect(registry.ids(for: []) == [])
        let first = registry.ids(for: [Self.endpoint("c"), Self.endpoint("a"), Self.endpoint("a", 8_001)])
        #expect(first.map(\.rawValue) == [8, 7, 9])
        #expect(registry.ids(for: [Self.endpoint("b")]).map(\.rawValue) == [3], "one that comes later")
        #expect(registry.ids(for: [Self.endpoint("a")]).map(\.rawValue) == [10], "one that left and comes again is new")
        #expect(registry.ids(for: [Self.endpoint("far")]).map(\.rawValue) == [11])
    }
}
