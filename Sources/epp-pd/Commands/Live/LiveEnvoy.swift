// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation

/// Reads an Envoy's own account of its configuration (`/config_dump`) for what ends or limits streams through a picker.
struct LiveEnvoy {
    private typealias Object = [String: Any]

    /// Requests that shall be able to run at the same time.
    let streams: Int
    private(set) var findings: [LiveFinding] = []
    private let subject: String
    private var clusters: [String: Object] = [:]
    private var managers: [Object] = []

    /// Envoy's defaults, from the documentation of each field.
    private static let defaultRequests = 1024
    private static let defaultRouteTimeout = 15.0
    private static let defaultIdleTimeout = 300.0
    /// An answer may think for so long before it says anything.
    private static let longestSilence = 600.0
    /// Decisions wait in a queue; Envoy's default of 200 ms would end them.
    private static let shortestMessageTimeout = 10.0

    /// - Parameters:
    ///   - body: of `/config_dump`.
    ///   - subject: names the Envoy.
    ///   - streams: requests that shall be able to run at the same time.
    init(dump body: [UInt8], subject: String, streams: Int) {
        self.streams = streams
        self.subject = subject
        guard let root = try? JSONSerialization.jsonObject(with: Data(body)) else {
            findings.append(.error(subject, "no configuration in JSON"))
            return
        }
        collect(root, depth: 0)
        judge()
    }

    private mutating func error(_ text: String) { findings.append(.error(subject, text)) }
    private mutating func warning(_ text: String) { findings.append(.warning(subject, text)) }

    // MARK: - Reading

    /// Deeper than any configuration of Envoy.
    private static let greatestDepth = 64

    private mutating func collect(_ node: Any, depth: Int) {
        guard depth < Self.greatestDepth else { return }
        if let list = node as? [Any] {
            for inner in list { collect(inner, depth: depth + 1) }
        } else if let object = node as? Object {
            let type = object["@type"] as? String ?? ""
            if type.hasSuffix("HttpConnectionManager") { managers.append(object) }
            if type.hasSuffix("cluster.v3.Cluster"), let name = object["name"] as? String { clusters[name] = object }
            for key in object.keys.sorted() {
                if let inner = object[key] { collect(inner, depth: depth + 1) }
            }
        }
    }

    /// The fields along `path`; the first element of a list.
    private static func field(_ object: Object, _ path: String...) -> Any? {
        var node: Any? = object
        for key in path {
            if let list = node as? [Any] { node = list.first }
            node = (node as? Object)?[key]
        }
        return node
    }

    /// `3600s` or `0.200s`.
    private static func seconds(_ value: Any?) -> Double? {
        (value as? String).flatMap { $0.hasSuffix("s") ? Double($0.dropLast()) : nil }
    }

    private static func number(_ value: Any?) -> Int? {
        if let inner = (value as? Object)?["value"] { return number(inner) }
        if let text = value as? String { return Int(text) }
        return value as? Int
    }

    // MARK: - Judging

    private mutating func judge() {
        var processors = 0
        for manager in managers {
            let filters = (manager["http_filters"] as? [Object] ?? []).compactMap { $0["typed_config"] as? Object }
            let found = filters.filter {
                ($0["@type"] as? String)?.hasSuffix("ext_proc.v3.ExternalProcessor") == true
                    && ($0["observability_mode"] as? Bool) != true
            }
            guard !found.isEmpty else { continue }
            processors += found.count
            for filter in found { judge(filter) }
            judgeManager(manager)
        }
        guard processors > 0 else { return error("no ext_proc filter: this Envoy asks no picker") }
        if !findings.contains(where: { $0.grade != .ok }) {
            findings.append(.ok(subject, "\(processors) ext_proc filters, room for \(streams) streams"))
        }
    }

    private mutating func judge(_ filter: Object) {
        let mode = Self.field(filter, "processing_mode", "request_body_mode") as? String ?? "NONE"
        switch mode {
        case "NONE": error("request_body_mode NONE: the picker sees no prompts")
        case "FULL_DUPLEX_STREAMED": break
        case "BUFFERED": warning("request_body_mode BUFFERED: prompts over Envoy's buffer limit are answered 413")
        default: warning("request_body_mode \(mode): the destination is chosen before the prompt is seen")
        }
        if mode != "FULL_DUPLEX_STREAMED" {
            let timeout = Self.seconds(filter["message_timeout"]) ?? 0.2
            if timeout < Self.shortestMessageTimeout {
                error("message_timeout \(timeout) s: Envoy gives up on requests that wait for their turn")
            }
        }
        if filter["failure_mode_allow"] as? Bool == true {
            warning("failure_mode_allow: without a picker requests go nowhere; in full duplex they fail all the same")
        }
        if filter["status_on_error"] == nil { warning("no status_on_error: a picker that is down is answered 500") }
        guard let name = Self.field(filter, "grpc_service", "envoy_grpc", "cluster_name") as? String else { return }
        guard let cluster = clusters[name] else { return error("the picker's cluster \(name) does not exist") }
        judgeCluster(cluster, name)
    }

    private mutating func judgeCluster(_ cluster: Object, _ name: String) {
        let requests =
            Self.number(Self.field(cluster, "circuit_breakers", "thresholds", "max_requests")) ?? Self.defaultRequests
        if requests < streams { error("cluster \(name): max_requests \(requests), fewer than \(streams) streams") }
        if (cluster["health_checks"] as? [Any])?.isEmpty ?? true {
            warning("cluster \(name): no health check: a picker that left is asked until its connection breaks")
        }
        let options = cluster["typed_extension_protocol_options"] as? Object ?? [:]
        let speaksHTTP2 = options.values.contains { value in
            guard let value = value as? Object else { return false }
            return Self.field(value, "explicit_http_config", "http2_protocol_options") != nil
        }
        if !speaksHTTP2, cluster["http2_protocol_options"] == nil { error("cluster \(name): does not speak HTTP/2") }
    }

    private mutating func judgeManager(_ manager: Object) {
        let idle = Self.seconds(manager["stream_idle_timeout"]) ?? Self.defaultIdleTimeout
        if idle > 0, idle < Self.longestSilence {
            warning("stream_idle_timeout \(idle) s: answers that think for longer are cut")
        }
        if (manager["early_header_mutation_extensions"] as? [Any])?.isEmpty ?? true {
            warning("routing headers of clients are not removed before the filters; only the picker removes them")
        }
        let hosts = Self.field(manager, "route_config", "virtual_hosts") as? [Object] ?? []
        for route in hosts.flatMap({ $0["routes"] as? [Object] ?? [] }) {
            guard let action = route["route"] as? Object else { continue }
            let timeout = Self.seconds(action["timeout"]) ?? Self.defaultRouteTimeout
            if timeout > 0, timeout < Self.longestSilence {
                error("a route's timeout is \(timeout) s: longer answers are cut")
            }
        }
    }
}
