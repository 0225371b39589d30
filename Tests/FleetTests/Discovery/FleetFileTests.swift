// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import Fleet
import Router
import Testing

private let small = "role: both, accelerator: h100-sxm, model: m, address: 10.0.0.1, port: 8000"

private func errors(_ text: String, _ options: FleetFile.Options = FleetFile.Options()) -> [String] {
    do {
        _ = try FleetFile.read(text: text, file: "f.yaml", options: options)
        return []
    } catch {
        return error.errors.map(\.description)
    }
}

@Suite struct FleetFileTests {
    /// The example of docs/fleet-file.md.
    static let whole = """
        endpoints:
          - name: prefill-h100
            role: prefill
            accelerator: h100-sxm
            model: llama-3.1-70b
            servedModels: [meta-llama/Llama-3.1-70B-Instruct]
            address: 127.0.0.1
            port: 8000
            tensorParallel: 4
            dtype: fp8
            kvDtype: auto
            blockSize: 16
            count: 2
            pool: default
            engine: vllm
            metrics: {port: 9000, path: /metrics}
            pricePerHour: 3.99
            network: {gbps: 400}
            kvPull: false
            kvEvents: {endpoint: "tcp://127.0.0.1:5557", replay: "tcp://127.0.0.1:6557", topic: ""}
            labels: {topology.kubernetes.io/zone: a}
        """

    @Test func readsTheWholeFormat() throws {
        let fleet = try FleetFile.read(text: Self.whole, file: "f.yaml")
        var expected = EndpointDescription(
            name: "prefill-h100-0",
            role: .prefill,
            accelerator: "h100-sxm",
            model: "llama-3.1-70b",
            servedModels: ["meta-llama/Llama-3.1-70B-Instruct"],
            address: "127.0.0.1",
            port: 8000,
            tensorParallel: 4,
            dtype: "fp8",
            kvDtype: "auto",
            blockSize: 16,
            metrics: MetricsPlace(port: 9000),
            pricePerHour: 3.99,
            networkGbps: 400,
            kvPull: false,
            kvEvents: KVEventsPlace(endpoint: "tcp://127.0.0.1:5557", replay: "tcp://127.0.0.1:6557"),
            labels: ["topology.kubernetes.io/zone": "a"]
        )
        #expect(fleet.first == expected)
        expected.name = "prefill-h100-1"
        expected.port = 8001
        expected.metrics.port = 9001
        expected.kvEvents = KVEventsPlace(endpoint: "tcp://127.0.0.1:5558", replay: "tcp://127.0.0.1:6558")
        #expect(fleet.last == expected)
        #expect(fleet.count == 2)
    }

    @Test func defaultsAreThoseOfTheDocumentation() throws {
        let fleet = try FleetFile.read(text: "endpoints: [{\(small)}]", file: "f")
        let expected = EndpointDescription(
            name: "10.0.0.1-8000",
            role: .both,
            accelerator: "h100-sxm",
            model: "m",
            address: "10.0.0.1",
            port: 8000
        )
        #expect(fleet == [expected])
        #expect(expected.tensorParallel == 1)
        #expect(expected.kvDtype == "auto")
        #expect(expected.pool == "default")
        #expect(expected.engine == "vllm")
        #expect(expected.metrics == MetricsPlace(port: 8000, path: "/metrics"))
    }

    @Test func namesAndPortsCountUp() throws {
        let text = "endpoints: [{\(small), name: a, count: 3}, {name: b, role: both, accelerator: x, model: m, "
        let fleet = try FleetFile.read(text: text + "address: '::1', port: 8000, count: 1}]", file: "f")
        #expect(fleet.map(\.name) == ["a-0", "a-1", "a-2", "b"])
        #expect(fleet.map(\.port) == [8000, 8001, 8002, 8000])
        #expect(fleet.map(\.metrics.port) == [8000, 8001, 8002, 8000])
    }

    @Test func theSimulatorNeedsNoAddress() throws {
        let text = "endpoints: [{role: decode, accelerator: a100-sxm, model: m, count: 2}]"
        #expect(errors(text).count == 2)
        let fleet = try FleetFile.read(text: text, file: "f", options: FleetFile.Options(needsAddresses: false))
        #expect(fleet.map(\.name) == ["endpoint-0-0", "endpoint-0-1"])
        #expect(fleet.map(\.port) == [0, 0])
    }

    @Test func requiredKeys() {
        #expect(
            errors("endpoints:\n  - name: a\n") == [
                "f.yaml:2:5: endpoints[0].role: is required",
                "f.yaml:2:5: endpoints[0].accelerator: is required",
                "f.yaml:2:5: endpoints[0].model: is required",
                "f.yaml:2:5: endpoints[0].address: is required",
                "f.yaml:2:5: endpoints[0].port: is required",
            ]
        )
        #expect(errors("x-note: 1\n") == ["f.yaml:1:1: endpoints: is required"])
    }

    @Test(arguments: [
        ("role: none", "role"), ("port: 0", "port"), ("port: 65536", "port"), ("address: localhost", "address"),
        ("address: '[::1]'", "address"), ("address: 10.0.0.256", "address"), ("tensorParallel: 0", "tensorParallel"),
        ("dtype: float64", "dtype"), ("kvDtype: int3", "kvDtype"), ("blockSize: 0", "blockSize"),
        ("count: 0", "count"), ("count: 1001", "count"), ("port: 65530, count: 7", "count"),
        ("engine: tgi", "engine"), ("metrics: {path: metrics}", "metrics.path"),
        ("metrics: {path: '/a b'}", "metrics.path"), ("metrics: {host: x}", "metrics.host"),
        ("pricePerHour: -1", "pricePerHour"), ("pricePerHour: .nan", "pricePerHour"),
        ("network: {gbps: 0}", "network.gbps"), ("kvPull: maybe", "kvPull"),
        ("kvEvents: {endpoint: 'tcp://h:5', ranks: 0}", "kvEvents.ranks"),
        ("kvEvents: {endpoint: 'tcp://h:65535', ranks: 2}", "kvEvents.ranks"),
        ("kvEvents: {discover: maybe, endpoint: 'tcp://h:5'}", "kvEvents.discover"),
        ("kvEvents: {endpoint: 'ipc:///x'}", "kvEvents.endpoint"), ("kvEvents: {}", "kvEvents.endpoint"),
        ("kvEvents: {endpoint: 'tcp://h:65535'}, count: 2", "count"), ("labels: [a]", "labels"), ("size: 1", "size"),
    ])
    func refuses(_ change: String, _ key: String) {
        let written = Set(change.split(separator: ",").compactMap { $0.split(separator: ":").first }.map(String.init))
        let rest = small.split(separator: ",").filter { part in
            !written.contains { part.trimmingSpaces.hasPrefix("\($0):") }
        }
        let found = errors("endpoints: [{\(rest.joined(separator: ",")), \(change)}]")
        #expect(found.count == 1)
        #expect(found.first?.contains(" endpoints[0].\(key): ") == true, "\(found)")
    }

    @Test func namesAndPlacesAreUnique() {
        let found = errors("endpoints:\n- {\(small), name: a, count: 2}\n- {\(small), name: a-1, pool: p}\n")
        #expect(
            found == [
                "f.yaml:3:3: endpoints[1]: the name \"a-1\" is taken: names must be unique",
                "f.yaml:3:3: endpoints[1]: a-1 has the same address and port as a-0",
            ]
        )
    }

    @Test func configuredEnginesAreKnown() throws {
        let text = "endpoints: [{\(small), engine: tgi}]"
        let engines = [EngineMetrics(engine: "tgi", entries: [.init(.waiting, ["tgi_queue_size"])])]
        let fleet = try FleetFile.read(text: text, file: "f", options: FleetFile.Options(engines: engines))
        #expect(fleet[0].engine == "tgi")
    }

    @Test func theNumberOfEndpointsIsBounded() {
        let entries = (0..<11).map { "{\(small.replacingPort(10_000 + 1000 * $0)), name: e\($0), count: 1000}" }
        let found = errors("endpoints: [\(entries.joined(separator: ", "))]")
        #expect(found.count == 1)
        #expect(found.first?.contains("more than 10000 endpoints") == true)
    }

    @Test func anEmptyFleetIsAFleet() throws {
        #expect(try FleetFile.read(text: "endpoints: []", file: "f").isEmpty)
    }
}

@Suite struct EndpointRegistryTests {
    private func endpoint(_ name: String, port: UInt16 = 1) -> EndpointDescription {
        EndpointDescription(
            name: name,
            role: .both,
            accelerator: "a",
            model: "m",
            address: "10.0.0.1",
            port: port
        )
    }

    @Test func idsStayWhileTheEndpointStays() {
        var registry = EndpointRegistry()
        #expect(registry.ids(for: [endpoint("a"), endpoint("b")]).map(\.rawValue) == [0, 1])
        var moved = endpoint("a")
        moved.pool = "other"
        #expect(registry.ids(for: [endpoint("c"), moved]).map(\.rawValue) == [2, 0])
        #expect(registry.ids(for: [endpoint("a", port: 2)]).map(\.rawValue) == [3])
        #expect(registry.ids(for: [endpoint("a"), endpoint("b")]).map(\.rawValue) == [4, 5])
    }
}

extension Substring {
    fileprivate var trimmingSpaces: Substring { drop { $0 == " " } }
}

extension String {
    fileprivate func replacingPort(_ port: Int) -> String {
        String(prefix { $0 != "p" }) + "port: \(port)"
    }
}
