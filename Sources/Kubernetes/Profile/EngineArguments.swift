// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FoundationEssentials

/// What a model server's command line says about it.
struct EngineArguments: Sendable, Hashable {
    var engine: String?
    var model: String?
    var servedModels: [String] = []
    var tensorParallel: Int?
    var dataParallel: Int?
    var dtype: String?
    var kvDtype: String?
    var blockSize: Int?
    var connector: String?
    var kvEvents: KVEvents?

    /// vLLM's `--kv-events-config`.
    struct KVEvents: Sendable, Hashable {
        var port: UInt16
        var replayPort: UInt16?
        var topic: String
    }

    /// Reads the container of a pod that looks most like a model server.
    static func of(_ pod: Pod) -> EngineArguments {
        let all = pod.spec.containers.map { (container: $0, read: EngineArguments(ArgumentList($0))) }
        if let server = all.first(where: { $0.read.engine != nil }) { return server.read }
        let withDevices = all.first { Devices.count(in: $0.container) != nil }
        return (withDevices ?? all.first)?.read ?? EngineArguments(ArgumentList(Pod.Container(name: "")))
    }

    init(_ list: ArgumentList) {
        if list.contains("sglang.launch_server") || list.contains("sglang") {
            engine = "sglang"
            readSGLang(list)
        } else if list.contains("trtllm-serve") {
            engine = "trtllm"
            readTensorRT(list)
        } else {
            let isVLLM = list.contains("vllm") || list.words.contains { $0.hasPrefix("vllm.entrypoints") }
            engine = isVLLM ? "vllm" : nil
            readVLLM(list)
        }
    }

    // MARK: - vLLM (vllm/engine/arg_utils.py)

    private mutating func readVLLM(_ list: ArgumentList) {
        model = list.value("--model") ?? (engine == nil ? nil : list.word(after: "serve"))
        servedModels = list.values("--served-model-name")
        tensorParallel = Self.count(list.value("--tensor-parallel-size", "-tp"))
        dataParallel = Self.count(list.value("--data-parallel-size", "-dp"))
        dtype = Self.dtype(quantization: list.value("--quantization", "-q"), dtype: list.value("--dtype"))
        kvDtype = list.value("--kv-cache-dtype")
        blockSize = Self.count(list.value("--block-size"))
        if let text = list.value("--kv-transfer-config"), let config = Self.json(text, Transfer.self) {
            connector = config.kv_connector
        }
        if let text = list.value("--kv-events-config"), let config = Self.json(text, Events.self),
            config.enable_kv_cache_events ?? false, config.publisher ?? "zmq" == "zmq"
        {
            // vLLM's default of the publisher's address.
            let port = Self.port(config.endpoint ?? "tcp://*:5557")
            kvEvents = port.map {
                KVEvents(port: $0, replayPort: config.replay_endpoint.flatMap(Self.port), topic: config.topic ?? "")
            }
        }
    }

    private struct Transfer: Decodable {
        var kv_connector: String?
    }

    private struct Events: Decodable {
        var enable_kv_cache_events: Bool?
        var publisher: String?
        var endpoint: String?
        var replay_endpoint: String?
        var topic: String?
    }

    // MARK: - SGLang (python/sglang/srt/server_args.py)

    private mutating func readSGLang(_ list: ArgumentList) {
        model = list.value("--model-path", "--model")
        servedModels = list.values("--served-model-name")
        tensorParallel = Self.count(list.value("--tensor-parallel-size", "--tp-size", "--tp"))
        dataParallel = Self.count(list.value("--data-parallel-size", "--dp-size", "--dp"))
        dtype = Self.dtype(quantization: list.value("--quantization"), dtype: list.value("--dtype"))
        kvDtype = list.value("--kv-cache-dtype")
        blockSize = Self.count(list.value("--page-size"))
        if list.value("--disaggregation-mode").map({ $0 != "null" }) ?? false {
            // SGLang's default.
            connector = list.value("--disaggregation-transfer-backend") ?? "mooncake"
        }
    }

    // MARK: - TensorRT-LLM (tensorrt_llm/commands/serve.py)

    private mutating func readTensorRT(_ list: ArgumentList) {
        let afterServe = list.word(after: "serve")
        model =
            afterServe ?? list.word(after: "trtllm-serve").flatMap { $0 == "serve" ? nil : $0 } ?? list.value("--model")
        tensorParallel = Self.count(list.value("--tp-size", "--tensor-parallel-size"))
        kvDtype = list.value("--kv-cache-dtype")
        blockSize = Self.count(list.value("--tokens-per-block"))
    }

    // MARK: - Values

    private static func count(_ text: String?) -> Int? {
        text.flatMap { Int($0) }.flatMap { (1...65_536).contains($0) ? $0 : nil }
    }

    private static func port(_ address: String) -> UInt16? {
        address.split(separator: ":").last.flatMap { UInt16($0) }.flatMap { $0 > 0 ? $0 : nil }
    }

    private static func json<Value: Decodable>(_ text: String, _: Value.Type) -> Value? {
        try? JSONDecoder().decode(Value.self, from: Data(text.utf8))
    }

    /// What the weights are: quantisation says more than the computation's type does. nil: as the model has them.
    private static func dtype(quantization: String?, dtype: String?) -> String? {
        if let name = quantization?.lowercased() {
            switch name {
            case let name where name.contains("fp8"): return "fp8"
            case let name where name.contains("fp4"): return "fp4"
            case let name where name.contains("awq") || name.contains("gptq") || name.contains("int4"): return "int4"
            // compressed-tensors, modelopt and others: the checkpoint says, and so may the model's name.
            default: return nil
            }
        }
        switch dtype?.lowercased() {
        case "bfloat16", "float16", "half": return "bfloat16"
        default: return nil
        }
    }
}

/// Accelerators that a container asks for.
enum Devices {
    static let resources = [
        "nvidia.com/gpu", "amd.com/gpu", "google.com/tpu", "habana.ai/gaudi", "gpu.intel.com/xe", "gpu.intel.com/i915",
    ]

    static func count(in container: Pod.Container) -> Int? {
        let limits = container.resources?.limits ?? [:]
        for name in resources {
            if let count = limits[name]?.count, count > 0 { return count }
        }
        // Slices of a GPU: nvidia.com/mig-1g.10gb.
        let slices = limits.keys.sorted().filter { $0.hasPrefix("nvidia.com/mig-") }
        return slices.compactMap { limits[$0]?.count }.first { $0 > 0 }
    }

    /// Of all containers together: sidecars have none.
    static func count(in pod: Pod) -> Int? {
        let counts = pod.spec.containers.compactMap { count(in: $0) }
        return counts.isEmpty ? nil : counts.reduce(0, +)
    }
}
