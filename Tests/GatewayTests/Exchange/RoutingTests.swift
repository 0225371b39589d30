// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router
import TestSupport
import Testing

@testable import Gateway

@Suite("Routing headers and metadata")
struct RoutingTests {
    @Test("A pair with a cache source sets three headers, and strips what it does not set")
    func pair() throws {
        let route = Route(
            destinations: ["10.0.0.1:8000", "10.0.0.2:8000"],
            prefiller: "10.0.1.1:80",
            kvSource: "[::1]:9"
        )
        let bench = try Bench(ScriptedPicker(.route(route)))
        let answers = try bench.send(EnvoyMessage.requestHeaders(endOfStream: true))
        guard case .requestHeaders(let headers)? = answers.first else { return #expect(Bool(false), "\(answers)") }
        #expect(
            headers.set == [
                "x-gateway-destination-endpoint: 10.0.0.1:8000 [2]", "x-prefiller-host-port: 10.0.1.1:80 [2]",
                "x-kv-cache-source-host-port: [::1]:9 [2]",
            ]
        )
        #expect(
            headers.removed == [
                "x-gateway-destination-endpoint-subset", "x-gateway-destination-endpoint-served",
                "x-encoder-hosts-ports",
                "x-data-parallel-host-port", "x-data-parallel-rank",
            ]
        )
        #expect(headers.metadata == ["envoy.lb/x-gateway-destination-endpoint=10.0.0.1:8000"])
    }

    @Test("A gateway that takes a list gets one, in header and metadata alike")
    func list() throws {
        var options = ExchangeOptions()
        options.destinationLimit = 2
        let route = Route(destinations: ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3"])
        let bench = try Bench(ScriptedPicker(.route(route)), options)
        let answers = try bench.send(EnvoyMessage.requestHeaders(endOfStream: true))
        guard case .requestHeaders(let headers)? = answers.first else { return #expect(Bool(false), "\(answers)") }
        #expect(headers.set == ["x-gateway-destination-endpoint: 10.0.0.1:1,10.0.0.2:2 [2]"])
        #expect(headers.metadata == ["envoy.lb/x-gateway-destination-endpoint=10.0.0.1:1,10.0.0.2:2"])
    }

    @Test("Names are configurable; the standard ones are stripped all the same")
    func names() throws {
        var options = ExchangeOptions()
        options.headerNames.destination = "x-dest"
        options.headerNames.prefiller = "x-pre"
        let bench = try Bench(ScriptedPicker(.route(Route(destinations: ["a:1"], prefiller: "b:2"))), options)
        let answers = try bench.send(EnvoyMessage.requestHeaders(endOfStream: true))
        guard case .requestHeaders(let headers)? = answers.first else { return #expect(Bool(false), "\(answers)") }
        #expect(headers.set == ["x-dest: a:1 [2]", "x-pre: b:2 [2]"])
        #expect(headers.removed == HeaderNames.steering)
        #expect(headers.metadata == ["envoy.lb/x-dest=a:1"])
        #expect(options.headerNames.removed(setting: []) == HeaderNames.steering + ["x-dest", "x-pre"])
    }

    static let hint = "x-gateway-destination-endpoint-subset"

    @Test(
        "The subset hint: a list, one string, a list in one string, nothing",
        arguments: [
            (EnvoyMessage.MetadataValue.list(["10.0.0.1:8000", "10.0.0.2"]), ["10.0.0.1:8000", "10.0.0.2"]),
            (.text("10.0.0.1:8000"), ["10.0.0.1:8000"]),
            (.text("10.0.0.1:8000, 10.0.0.2"), ["10.0.0.1:8000", "10.0.0.2"]),
            (.list([]), []), (.number(1), nil),
        ] as [(EnvoyMessage.MetadataValue, [String]?)]
    )
    func subset(value: EnvoyMessage.MetadataValue, expected: [String]?) throws {
        let metadata = [(namespace: "envoy.lb.subset_hint", key: Self.hint, value: value)]
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders(endOfStream: true, metadata: metadata))
        #expect(bench.picker.requests.map(\.subset) == [expected])

        var options = ExchangeOptions()
        options.ignoresSubset = true
        let deaf = try Bench(ScriptedPicker(), options)
        try deaf.send(EnvoyMessage.requestHeaders(endOfStream: true, metadata: metadata))
        #expect(deaf.picker.requests.map(\.subset) == [nil])
    }

    @Test("Metadata of other namespaces and keys is no hint")
    func otherMetadata() throws {
        let bench = try Bench()
        let metadata: [(namespace: String, key: String, value: EnvoyMessage.MetadataValue)] = [
            ("envoy.lb", Self.hint, .text("a:1")), ("envoy.lb.subset_hint", "other", .text("a:1")),
        ]
        try bench.send(EnvoyMessage.requestHeaders(endOfStream: true, metadata: metadata))
        #expect(bench.picker.requests.map(\.subset) == [nil])
    }

    @Test("A hint that comes with the body counts")
    func subsetWithBody() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders())
        let metadata = [
            (namespace: "envoy.lb.subset_hint", key: Self.hint, value: EnvoyMessage.MetadataValue.text("a:1"))
        ]
        try bench.send(
            EnvoyMessage.message(4, metadata: metadata) { writer in
                writer.data(1, ExchangeTests.body)
                writer.number(2, 1)
            }
        )
        #expect(bench.picker.requests.map(\.subset) == [["a:1"]])
    }

    @Test("Another endpoint served than was picked", arguments: [("10.0.0.1:8000", 0), ("10.0.0.9:8000", 1)])
    func served(endpoint: String, notes: Int) throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders(endOfStream: true))
        let metadata = [
            (
                namespace: "envoy.lb", key: "x-gateway-destination-endpoint-served",
                value: EnvoyMessage.MetadataValue.text(endpoint)
            )
        ]
        try bench.send(EnvoyMessage.responseHeaders(metadata: metadata))
        #expect(bench.observer.notes.count == notes)
        if notes > 0 { #expect(bench.observer.notes == ["served 10.0.0.9:8000 instead of 10.0.0.1:8000"]) }
    }

    @Test("Service levels and objectives: a new name counts before its alias, in whatever order they come")
    func serviceLevels() throws {
        let bench = try Bench()
        let headers = [
            (":method", "GET"), (":path", "/x"), ("x-llm-d-slo-ttft-ms", "250.5"), ("x-slo-ttft-ms", "1"),
            ("x-slo-tpot-ms", "40"), ("x-gateway-inference-objective", "old"), ("x-llm-d-inference-objective", "new"),
        ]
        try bench.send(EnvoyMessage.requestHeaders(headers, endOfStream: true))
        let request = try #require(bench.picker.requests.first)
        #expect(
            request.serviceLevel == ServiceLevel(ttft: Seconds(milliseconds: 250.5), tpot: Seconds(milliseconds: 40))
        )
        #expect(request.objective == "new")
    }

    @Test("A bad service level is none", arguments: ["", "abc", "-1", "0", "inf", "nan", "1e999"])
    func badServiceLevel(text: String) throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders([(":path", "/"), ("x-slo-ttft-ms", text)], endOfStream: true))
        #expect(bench.picker.requests.first?.serviceLevel == ServiceLevel())
    }

    @Test("Header values are read from value where raw_value is empty")
    func plainValues() throws {
        let bench = try Bench()
        let message = EnvoyMessage.message(2) { writer in
            writer.message(1) { writer in
                writer.message(1) { writer in
                    writer.text(1, "x-request-id")
                    writer.text(2, "old")
                }
            }
            writer.number(3, 1)
        }
        try bench.send(message)
        #expect(bench.picker.requests.map(\.externalID) == ["old"])
    }
}
