// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import Fleet
import Foundation
import Router
import Testing

/// docs/fleet.schema.json and the reader of the fleet file say the same.
@Suite struct FleetSchemaTests {
    private let schema: [String: Any]
    private let endpoint: [String: Any]
    private let properties: [String: [String: Any]]

    init() throws {
        let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().appending(path: "docs/fleet.schema.json")
        schema = try #require(JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
        let definitions = try #require(schema["$defs"] as? [String: [String: Any]])
        endpoint = try #require(definitions["endpoint"])
        properties = try #require(endpoint["properties"] as? [String: [String: Any]])
    }

    private static var minimal: [String: Any] {
        ["role": "both", "accelerator": "h100-sxm", "model": "m", "address": "10.0.0.1", "port": 8000]
    }

    private func errors(_ entry: [String: Any]) throws -> [ConfigurationError] {
        let data = try JSONSerialization.data(withJSONObject: ["endpoints": [entry]])
        do {
            _ = try FleetFile.read(text: String(decoding: data, as: UTF8.self), file: "f.json")
            return []
        } catch {
            return error.errors
        }
    }

    /// The error about an unknown key lists the keys that the reader asks for.
    private func allowed(inside key: String?) throws -> [String] {
        var entry = Self.minimal
        if let key {
            entry[key] = ["unknown": 1]
        } else {
            entry["unknown"] = 1
        }
        let message = try #require(try errors(entry).map(\.message).first { $0.hasPrefix("unknown key") })
        let list = message.dropFirst("unknown key; allowed here: ".count).dropLast(", and x-…".count)
        return list.components(separatedBy: ", ")
    }

    @Test func theKeysAreTheSame() throws {
        #expect(try allowed(inside: nil).sorted() == properties.keys.sorted())
        for key in ["metrics", "network", "kvEvents"] {
            let inner = try #require(properties[key]?["properties"] as? [String: Any])
            #expect(try allowed(inside: key).sorted() == inner.keys.sorted())
        }
    }

    @Test func requiredKeysAreTheSame() throws {
        let required = try #require(endpoint["required"] as? [String])
        let missing = try errors([:]).map { $0.keyPath.replacingOccurrences(of: "endpoints[0].", with: "") }
        #expect(missing == required)
    }

    @Test func choicesAreTheSame() throws {
        #expect(properties["role"]?["enum"] as? [String] == Role.allCases.map(\.rawValue))
        #expect(properties["kvDtype"]?["enum"] as? [String] == FleetFile.kvDtypes)
        let list = try #require((schema["properties"] as? [String: [String: Any]])?["endpoints"])
        #expect(list["maxItems"] as? Int == FleetFile.maxEndpoints)
    }

    /// Any case, any known name, and nothing at all: as on every command line.
    @Test func formatsOfWeights() throws {
        func errors(of dtype: String) throws -> Int {
            var entry = Self.minimal
            entry["dtype"] = dtype
            return try self.errors(entry).count
        }
        for name in try #require(properties["dtype"]?["examples"] as? [String]) + ["", "BF16", "FP8", "NVFP4", "awq"] {
            #expect(try errors(of: name) == 0, "\(name)")
        }
        #expect(try errors(of: "fp3") == 1)
    }

    /// At each bound the reader accepts, beyond it it refuses.
    @Test func rangesAreTheSame() throws {
        var tried = 0
        for (key, property) in properties {
            guard let least = property["minimum"] as? Double, let most = property["maximum"] as? Double else {
                continue
            }
            let isInteger = property["type"] as? String == "integer"
            func errorsAt(_ value: Double) throws -> [ConfigurationError] {
                var entry = Self.minimal
                entry[key] = isInteger ? Int(value) as Any : value as Any
                // Many pods need room for their ports.
                if key == "count" { entry["port"] = 1 }
                return try errors(entry)
            }
            #expect(try errorsAt(least).isEmpty, "\(key) \(least)")
            #expect(try errorsAt(most).isEmpty, "\(key) \(most)")
            #expect(try errorsAt(least - 1).count == 1, "\(key) \(least - 1)")
            #expect(try errorsAt(most + 1).count == 1, "\(key) \(most + 1)")
            tried += 1
        }
        #expect(tried == 5)
    }

    @Test func defaultsAreTheSame() throws {
        let data = try JSONSerialization.data(withJSONObject: ["endpoints": [Self.minimal]])
        let read = try FleetFile.read(text: String(decoding: data, as: UTF8.self), file: "f.json")
        let pod = try #require(read.first)
        #expect(properties["tensorParallel"]?["default"] as? Int == pod.tensorParallel)
        #expect(properties["pool"]?["default"] as? String == pod.pool)
        #expect(properties["engine"]?["default"] as? String == pod.engine)
        let metrics = try #require(properties["metrics"]?["properties"] as? [String: [String: Any]])
        #expect(metrics["path"]?["default"] as? String == pod.metrics.path)
    }
}
