// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Glibc
import Router

/// One element of `endpoints`: a description of `count` pods whose ports count up.
struct FleetFileEntry {
    private static let maxCount = 1000
    private static let maxLabels = 64
    private static let maxServedModels = 1000

    /// Its name is empty where the file gives none.
    var first: EndpointDescription
    var count: Int
    /// Place in the list, for the name of an entry that has neither name nor address.
    var index: Int

    static func read(_ value: DocumentValue, index: Int, options: FleetFile.Options) -> FleetFileEntry? {
        value.object { object in
            let name = object.string("name", default: "", maxLength: 253)
            let role = object.required("role")?.choice(Role.self)
            let accelerator = object.required("accelerator")?.string(maxLength: 128)
            let model = object.required("model")?.string(maxLength: 256)
            let served = object.optional("servedModels")?.list(maxCount: maxServedModels)
            let servedModels = served?.compactMap { $0.string(maxLength: 256) }
            let addressValue = options.needsAddresses ? object.required("address") : object.optional("address")
            let address = addressValue.map(readAddress)
            let portValue = options.needsAddresses ? object.required("port") : object.optional("port")
            let port = portValue.map { UInt16(clamping: $0.integer(in: 1...65_535) ?? 0) } ?? 0
            let tensorParallel = object.integer("tensorParallel", in: 1...1024, default: 1)
            let dtype = object.weightDtype("dtype")?.rawValue
            let kvDtype = object.optional("kvDtype")?.choice(of: FleetFile.kvDtypes) ?? "auto"
            let blockSize = object.optional("blockSize")?.integer(in: 1...65_536)
            let count = object.integer("count", in: 1...maxCount, default: 1)
            let pool = object.string("pool", default: "default", maxLength: 253)
            let engine =
                options.takesAnyEngine
                ? object.optional("engine")?.string(maxLength: 64) ?? "vllm"
                : object.optional("engine")?.choice(of: FleetFile.engines + options.configuredEngines) ?? "vllm"
            let metrics = readMetrics(object.optional("metrics"), port: port)
            let price = object.optional("pricePerHour")?.number(in: 0...100_000)
            let gbps = readNetwork(object.optional("network"))
            let kvPull = object.optional("kvPull")?.bool()
            let kvEvents = object.optional("kvEvents").flatMap(readKVEvents)
            let labels = readLabels(object.optional("labels"))
            let events = [kvEvents?.endpoint, kvEvents?.replay].compactMap { $0.flatMap(ZMQAddress.init)?.port }
            let ranks = kvEvents?.ranks ?? 1
            let firsts = [(port, 1), (metrics.port, 1)] + events.map { ($0, ranks) }
            if let (first, _) = firsts.first(where: { Int($0) + (count - 1) * $1 > 65_535 }) {
                object.optional("count")?.reject("ports count up from \(first) beyond 65535")
                return nil
            }
            guard let role, let accelerator, let model else { return nil }
            let first = EndpointDescription(
                name: name,
                role: role,
                accelerator: accelerator,
                model: model,
                servedModels: servedModels,
                address: (address ?? nil) ?? "",
                port: port,
                tensorParallel: tensorParallel,
                dtype: dtype,
                kvDtype: kvDtype,
                blockSize: blockSize,
                pool: pool,
                engine: engine,
                metrics: metrics,
                pricePerHour: price,
                networkGbps: gbps,
                kvPull: kvPull,
                kvEvents: kvEvents,
                labels: labels
            )
            return FleetFileEntry(first: first, count: count, index: index)
        }
    }

    /// The pods: names with -0, -1, … where there are several, and every port counting up.
    func expanded() -> [EndpointDescription] {
        (0..<count).map { step in
            var copy = first
            copy.port = Self.raised(copy.port, by: step)
            copy.metrics.port = Self.raised(copy.metrics.port, by: step)
            if var events = copy.kvEvents {
                // Pods that publish to the picker share its port, and topics tell them apart.
                let ports = events.isBoundByPicker ? 0 : step * events.ranks
                events.endpoint = ZMQAddress(events.endpoint)?.raised(by: ports) ?? events.endpoint
                events.replay = events.replay.map { ZMQAddress($0)?.raised(by: step * events.ranks) ?? $0 }
                copy.kvEvents = events
            }
            if !first.name.isEmpty {
                copy.name += count > 1 ? "-\(step)" : ""
            } else if copy.port != 0 {
                copy.name = "\(copy.address)-\(copy.port)"
            } else {
                copy.name = count > 1 ? "endpoint-\(index)-\(step)" : "endpoint-\(index)"
            }
            return copy
        }
    }

    /// 0 stands for no port. The sum was checked when the entry was read.
    private static func raised(_ port: UInt16, by step: Int) -> UInt16 {
        port == 0 ? 0 : UInt16(clamping: Int(port) + step)
    }

    private static func readAddress(_ value: DocumentValue) -> String? {
        guard let text = value.string(maxLength: 64) else { return nil }
        guard let address = canonicalAddress(text) else {
            value.reject(
                "must be an IPv4 or IPv6 literal without brackets, not \(text): Envoy takes no host names here"
            )
            return nil
        }
        return address
    }

    /// - Returns: the address as the system writes it, nil where the text is none.
    static func canonicalAddress(_ text: String) -> String? {
        for family in [AF_INET, AF_INET6] {
            var binary = in6_addr()
            guard unsafe inet_pton(family, text, &binary) == 1 else { continue }
            var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
            let count = socklen_t(buffer.count)
            guard unsafe inet_ntop(family, &binary, &buffer, count) != nil else { return nil }
            return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
        return nil
    }

    private static func readMetrics(_ value: DocumentValue?, port: UInt16) -> MetricsPlace {
        let standard = MetricsPlace(port: port)
        guard let value else { return standard }
        let read = value.object { object in
            let own = object.integer("port", in: 1...65_535, default: Int(port))
            let pathValue = object.optional("path")
            let path = pathValue?.string(maxLength: 512) ?? standard.path
            let isPlain = path.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
            if !path.hasPrefix("/") || !isPlain {
                pathValue?.reject("must be a path that begins with / and has no spaces")
            }
            return MetricsPlace(port: UInt16(clamping: own), path: path)
        }
        return read ?? standard
    }

    private static func readNetwork(_ value: DocumentValue?) -> Double? {
        value?.object { object in object.optional("gbps")?.number(in: 0.001...1_000_000) }
    }

    private static func readKVEvents(_ value: DocumentValue) -> KVEventsPlace? {
        value.object { object in
            if object.bool("discover", default: false) { return .discovered }
            let endpoint = object.required("endpoint").flatMap(readZMQAddress)
            let replay = object.optional("replay").flatMap(readZMQAddress)
            let topic = object.optional("topic")?.string(maxLength: 256, allowsEmpty: true) ?? ""
            let ranks = object.integer("ranks", in: 1...KVEventsPlace.maxRanks, default: 1)
            let last = [endpoint, replay].compactMap { $0.flatMap(ZMQAddress.init)?.port }.max() ?? 1
            if Int(last) + ranks - 1 > 65_535 { object.optional("ranks")?.reject("ports count up beyond 65535") }
            return endpoint.map { KVEventsPlace(endpoint: $0, replay: replay, topic: topic, ranks: ranks) }
        }
    }

    private static func readZMQAddress(_ value: DocumentValue) -> String? {
        guard let text = value.string(maxLength: 256) else { return nil }
        guard ZMQAddress(text) != nil else {
            value.reject("must be tcp://HOST:PORT, not \(text)")
            return nil
        }
        return text
    }

    private static func readLabels(_ value: DocumentValue?) -> [String: String] {
        var labels: [String: String] = [:]
        for (key, value) in value?.entries(maxCount: maxLabels) ?? [] {
            labels[key] = value.string(maxLength: 256, allowsEmpty: true)
        }
        return labels
    }
}

/// `tcp://HOST:PORT`.
struct ZMQAddress {
    var host: Substring
    var port: UInt16

    init?(_ text: String) {
        let scheme = "tcp://"
        guard text.hasPrefix(scheme), let colon = text.lastIndex(of: ":") else { return nil }
        let start = text.index(text.startIndex, offsetBy: scheme.count)
        guard start < colon, let port = UInt16(text[text.index(after: colon)...]), port > 0 else { return nil }
        self.host = text[start..<colon]
        self.port = port
    }

    func raised(by step: Int) -> String { "tcp://\(host):\(UInt16(clamping: Int(port) + step))" }
}
