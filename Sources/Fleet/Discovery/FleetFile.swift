// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Configuration

/// The fleet file: one YAML or JSON format for serve, mock-server and the simulator. See docs/fleet-file.md.
package enum FleetFile {
    /// More than one picker can use: each endpoint is scraped, and is a candidate of each request.
    package static let maxEndpoints = 10_000
    package static let engines = ["vllm", "sglang", "trtllm", "triton"]
    package static let kvDtypes = ["auto", "bfloat16", "bf16", "fp8", "fp8_e4m3", "fp8_e5m2"]

    /// What a reader of the file may take for granted.
    package struct Options: Sendable, Hashable {
        /// Address and port are required. The simulator needs none.
        package var needsAddresses: Bool
        /// Names of engines that a configuration defines, beside the built-in ones.
        package var configuredEngines: [String]
        /// For readers without a configuration that scrape nothing: mock servers and the simulator.
        package var takesAnyEngine: Bool

        package init(needsAddresses: Bool = true, engines: [EngineMetrics] = [], takesAnyEngine: Bool = false) {
            self.needsAddresses = needsAddresses
            self.takesAnyEngine = takesAnyEngine
            configuredEngines = engines.map(\.engine).filter { !FleetFile.engines.contains($0) }
        }
    }

    package static func read(
        path: String,
        options: Options = Options()
    ) throws(ConfigurationErrors) -> [EndpointDescription] {
        try Document.read(path: path) { endpoints($0, options) }
    }

    package static func read(
        text: String,
        file: String,
        options: Options = Options()
    ) throws(ConfigurationErrors) -> [EndpointDescription] {
        try Document.read(text: text, file: file) { endpoints($0, options) }
    }

    private static func endpoints(_ root: DocumentValue, _ options: Options) -> [EndpointDescription]? {
        root.object { object in
            var all: [EndpointDescription] = []
            var names: Set<String> = []
            var places: [Place: String] = [:]
            for (index, value) in (object.required("endpoints")?.list(maxCount: maxEndpoints) ?? []).enumerated() {
                guard let entry = FleetFileEntry.read(value, index: index, options: options) else { continue }
                guard all.count + entry.count <= maxEndpoints else {
                    value.reject("the file names more than \(maxEndpoints) endpoints, counts included")
                    break
                }
                for description in entry.expanded() {
                    if !names.insert(description.name).inserted {
                        value.reject("the name \"\(description.name)\" is taken: names must be unique")
                    }
                    if description.port != 0 {
                        let place = Place(address: description.address, port: description.port)
                        if let other = places.updateValue(description.name, forKey: place) {
                            value.reject("\(description.name) has the same address and port as \(other)")
                        }
                    }
                    all.append(description)
                }
            }
            return all
        }
    }

    private struct Place: Hashable {
        var address: String
        var port: UInt16
    }
}
