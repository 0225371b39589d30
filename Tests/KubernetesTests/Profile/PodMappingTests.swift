// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import Fleet
import FoundationEssentials
import Router
import Testing

@testable import Kubernetes

@Suite("Pods as endpoints")
struct PodMappingTests {
    static func pod(
        _ name: String = "a",
        args: [String] = [],
        command: [String] = ["vllm", "serve"],
        labels: [String: String] = [:],
        annotations: [String: String] = [:],
        limits: [String: Quantity] = ["nvidia.com/gpu": Quantity("4")],
        status: Pod.Status? = nil,
        deleted: Bool = false
    ) -> Pod {
        let ready = Pod.Status(
            phase: "Running",
            podIP: "10.0.0.1",
            conditions: [Pod.Condition(type: "Ready", status: "True")]
        )
        return Pod(
            metadata: ObjectMetadata(
                name: name,
                namespace: "default",
                labels: labels,
                annotations: annotations,
                deletionTimestamp: deleted ? "2026-11-21T00:00:00Z" : nil
            ),
            spec: Pod.Spec(
                nodeName: "n",
                containers: [
                    Pod.Container(name: "sidecar", args: ["--port=8000", "--model-server-port=8200"]),
                    Pod.Container(
                        name: "server",
                        command: command,
                        args: args,
                        resources: Pod.Resources(limits: limits)
                    ),
                ]
            ),
            status: status ?? ready
        )
    }

    static func map(
        _ pods: [Pod],
        ports: [UInt16] = [8000],
        node: [String: String] = ["nvidia.com/gpu.product": "NVIDIA-L40S"],
        defaults: PoolDefaults? = nil,
        learned: LearnedFacts = LearnedFacts()
    ) -> PodMap {
        var state = ClusterState()
        state.pools = [ClusterState.Pool(name: "p", ports: ports, selector: "x", pods: pods)]
        state.nodes = ["n": Node(metadata: ObjectMetadata(name: "n", labels: node))]
        return PodMapping.map(state, defaults.map { ["p": $0] } ?? [:], learned)
    }

    static func facts(_ map: PodMap) -> [String: String] {
        Dictionary(
            (map.pods.first?.facts ?? []).map { ($0.field, "\($0.value) (\($0.from.rawValue))") },
            uniquingKeysWith: { first, _ in first }
        )
    }

    @Test(
        "Every role label",
        arguments: [
            (nil, Role.both), ("both", .both), ("prefill-decode", .both), ("encode-prefill-decode", .both),
            ("prefill", .prefill), ("encode-prefill", .prefill), ("decode", .decode), ("encode-decode", .decode),
        ] as [(String?, Role)]
    )
    func roles(_ label: String?, _ role: Role) {
        let map = Self.map([Self.pod(labels: label.map { ["llm-d.ai/role": $0] } ?? [:])])
        #expect(map.endpoints.map(\.role) == [role])
    }

    @Test("Encode-only and unknown roles are listed, not used", arguments: ["encode", "cook"])
    func unused(_ label: String) {
        let map = Self.map([Self.pod(labels: ["llm-d.ai/role": label])])
        #expect(map.endpoints.isEmpty)
        #expect(map.pods.map(\.state) == [.unused])
        #expect(map.pods[0].problems.isEmpty == (label == "encode"))
    }

    @Test("Only ready pods serve; those on their way out are drained, those that ended are gone")
    func states() {
        let pending = Pod.Status(phase: "Pending", podIP: nil, conditions: nil)
        let unready = Pod.Status(
            phase: "Running",
            podIP: "10.0.0.2",
            conditions: [Pod.Condition(type: "Ready", status: "False")]
        )
        let over = Pod.Status(phase: "Failed", podIP: "10.0.0.3", conditions: nil)
        let map = Self.map([
            Self.pod("a"), Self.pod("b", status: pending), Self.pod("c", status: unready), Self.pod("d", status: over),
        ])
        #expect(map.pods.map(\.state) == [.serving, .notReady, .notReady, .over])
        #expect(map.endpoints.map(\.name) == ["a", "c"])
        #expect(map.endpoints.map(\.standing) == [.serving, .notReady])
        let leaving = Self.map([Self.pod("e", deleted: true)])
        #expect(leaving.endpoints.map(\.standing) == [.draining])
    }

    @Test("A pod that serves on some of its pool's ports has the ranks of those", arguments: PodMapping.portAnnotations)
    func activePorts(_ name: String) {
        func map(_ text: String) -> PodMap {
            Self.map([Self.pod(annotations: [name: text])], ports: [8000, 8001, 8002, 8003])
        }
        let two = map("8001, 8003")
        #expect(two.endpoints.map(\.name) == ["a-rank-1", "a-rank-3"])
        #expect(two.endpoints.map(\.port) == [8001, 8003])
        // Four devices are those of two ranks.
        #expect(two.endpoints.map(\.tensorParallel) == [2, 2])
        #expect(two.pods[0].problems.isEmpty)
        let none = map("")
        #expect(none.endpoints.isEmpty)
        let wrong = map("8000,9000,x")
        #expect(wrong.endpoints.map(\.name) == ["a-rank-0"])
        #expect(wrong.pods[0].problems.count == 1)
        #expect(Self.map([Self.pod()], ports: [8000, 8001]).endpoints.count == 2)
    }

    @Test("vLLM's arguments")
    func vllm() {
        let map = Self.map([
            Self.pod(args: [
                "Qwen/Qwen3-32B", "--tensor_parallel_size", "2", "--quantization=fp8", "--kv-cache-dtype", "fp8_e4m3",
                "--block-size=32", "--served-model-name", "qwen", "big", "--kv-transfer-config",
                "{\"kv_connector\":\"NixlConnector\",\"kv_role\":\"kv_both\"}", "--kv-events-config",
                "{\"enable_kv_cache_events\":true,\"endpoint\":\"tcp://*:5600\",\"topic\":\"kv\"}",
            ])
        ])
        let endpoint = map.endpoints[0]
        #expect(endpoint.model == "Qwen/Qwen3-32B")
        #expect(endpoint.tensorParallel == 2)
        #expect(endpoint.dtype == "fp8")
        #expect(endpoint.kvDtype == "fp8_e4m3")
        #expect(endpoint.blockSize == 32)
        #expect(endpoint.servedModels == ["qwen", "big"])
        #expect(endpoint.connector == "NixlConnector")
        #expect(endpoint.kvEvents == KVEventsPlace(endpoint: "tcp://10.0.0.1:5600", replay: nil, topic: "kv"))
        #expect(endpoint.accelerator == "NVIDIA-L40S")
        #expect(Self.facts(map)["accelerator"] == "NVIDIA-L40S (node)")
        #expect(map.pods[0].missing.isEmpty)
    }

    @Test("A script around the server, with variables")
    func script() {
        var pod = Self.pod(
            args: ["exec vllm serve $MODEL \\\n  --port 8000 -tp=${TP} --dtype 'bfloat16' && echo done"],
            command: ["/bin/bash", "-c"]
        )
        pod.spec.containers[1].env = [
            Pod.Variable(name: "MODEL", value: "org/model"), Pod.Variable(name: "TP", value: "8"),
        ]
        let endpoint = Self.map([pod]).endpoints[0]
        #expect(endpoint.model == "org/model")
        #expect(endpoint.tensorParallel == 8)
        #expect(endpoint.dtype == "bfloat16")
        #expect(endpoint.engine == "vllm")
    }

    @Test("SGLang's and TensorRT-LLM's arguments")
    func others() {
        let sglang = Self.map([
            Self.pod(
                args: ["--model-path", "m/x", "--tp", "4", "--page-size", "64", "--disaggregation-mode", "prefill"],
                command: ["python3", "-m", "sglang.launch_server"]
            )
        ]).endpoints[0]
        #expect(sglang.engine == "sglang")
        #expect(sglang.model == "m/x")
        #expect(sglang.tensorParallel == 4)
        #expect(sglang.blockSize == 64)
        #expect(sglang.connector == "mooncake")
        let tensorRT = Self.map([
            Self.pod(args: ["m/y", "--tp_size", "2"], command: ["trtllm-serve"])
        ]).endpoints[0]
        #expect(tensorRT.engine == "trtllm")
        #expect(tensorRT.model == "m/y")
        #expect(tensorRT.tensorParallel == 2)
    }

    @Test("The annotation wins over the arguments, they over resources, these over the configuration")
    func precedence() {
        var defaults = PoolDefaults()
        defaults.model = "from-configuration"
        defaults.tensorParallel = 16
        defaults.accelerator = "h200"
        defaults.connector = "lmcache"
        let annotation = "{model: from-annotation, tensorParallel: 2, connector: nixl}"
        let all = Self.map(
            [Self.pod(args: ["from-arguments", "-tp", "8"], annotations: ["epp-pd.io/profile": annotation])],
            defaults: defaults
        )
        #expect(Self.facts(all)["model"] == "from-annotation (annotation)")
        #expect(Self.facts(all)["tensorParallel"] == "2 (annotation)")
        let less = Self.map([Self.pod(args: ["from-arguments"])], defaults: defaults)
        #expect(Self.facts(less)["model"] == "from-arguments (arguments)")
        #expect(Self.facts(less)["tensorParallel"] == "4 (resources)")
        #expect(Self.facts(less)["connector"] == "lmcache (configuration)")
        let learned = LearnedFacts(servers: ["a": LearnedFacts.Server(models: ["from-server"], blockSize: 16)])
        let told = Self.map([Self.pod(command: [])], defaults: defaults, learned: learned)
        #expect(Self.facts(told)["model"] == "from-server (server)")
        #expect(Self.facts(told)["blockSize"] == "16 (server)")
        let least = Self.map([Self.pod(command: [], limits: [:])], node: [:], defaults: defaults)
        #expect(Self.facts(least)["model"] == "from-configuration (configuration)")
        #expect(Self.facts(least)["tensorParallel"] == "16 (configuration)")
        #expect(Self.facts(least)["accelerator"] == "h200 (configuration)")
    }

    @Test("What nobody says is named as missing, not guessed")
    func missing() {
        let map = Self.map([Self.pod(command: [], limits: [:])], node: [:])
        #expect(Set(map.pods[0].missing) == ["accelerator", "model", "tensorParallel"])
        #expect(!map.pods[0].hasProfile)
        #expect(map.endpoints[0].servedModels == nil)
    }

    @Test("A bad annotation is told, and says nothing")
    func badAnnotation() {
        let map = Self.map([
            Self.pod(args: ["m"], annotations: ["epp-pd.io/profile": "{model: x, tensorParallel: many}"])
        ])
        #expect(Self.facts(map)["model"] == "m (arguments)")
        #expect(map.pods[0].problems.count == 1)
        #expect(map.pods[0].problems[0].contains("tensorParallel"))
    }

    @Test(
        "Names that nodes give their accelerators",
        arguments: [
            ["nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"], ["cloud.google.com/gke-accelerator": "nvidia-l4"],
            ["cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice"], ["karpenter.k8s.aws/instance-gpu-name": "l40s"],
            ["amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"],
            ["node.kubernetes.io/instance-type": "Standard_ND96isr_H100_v5"],
        ]
    )
    func nodes(_ labels: [String: String]) {
        #expect(Self.map([Self.pod()], node: labels).endpoints[0].accelerator == labels.values.first)
    }

    @Test("A pod's own label, and its price, come before its node's")
    func ownWord() {
        let map = Self.map(
            [Self.pod(labels: ["epp-pd.io/accelerator": "h200"], annotations: ["epp-pd.io/price-per-hour": "3.5"])],
            node: [
                "nvidia.com/gpu.product": "NVIDIA-L40S", "epp-pd.io/price-per-hour": "1.5",
                "topology.kubernetes.io/zone": "z1",
            ]
        )
        #expect(map.endpoints[0].accelerator == "h200")
        #expect(map.endpoints[0].pricePerHour == 3.5)
        #expect(map.endpoints[0].labels["topology.kubernetes.io/zone"] == "z1")
    }

    @Test("Several ports are ranks, which share the devices")
    func ranks() {
        let map = Self.map(
            [Self.pod(args: ["m", "--kv-events-config={\"enable_kv_cache_events\":true}"])],
            ports: [8000, 8001]
        )
        #expect(map.endpoints.map(\.name) == ["a-rank-0", "a-rank-1"])
        #expect(map.endpoints.map(\.port) == [8000, 8001])
        #expect(map.endpoints.map(\.metrics.port) == [8000, 8001])
        #expect(map.endpoints.map(\.tensorParallel) == [2, 2])
        #expect(map.endpoints.map { $0.kvEvents?.endpoint } == ["tcp://10.0.0.1:5557", "tcp://10.0.0.1:5558"])
    }

    @Test("Pulls are by a person's word alone: the pod's, else its pool's")
    func pulls() {
        #expect(Self.map([Self.pod()]).endpoints[0].kvPull == nil)
        for (said, isPulling) in [("true", true), ("false", false)] {
            let map = Self.map([Self.pod(annotations: ["epp-pd.io/profile": "{kvPull: \(said)}"])])
            #expect(map.endpoints[0].kvPull == isPulling && Self.facts(map)["kvPull"] == "\(said) (annotation)")
        }
        var configured = PoolDefaults()
        configured.kvPull = true
        let pool = ClusterState.Pool(name: "x", ports: [8000], selector: "s", pods: [Self.pod()])
        var state = ClusterState()
        state.pools = [pool]
        #expect(PodMapping.map(state, ["x": configured]).endpoints[0].kvPull == true)
        #expect(PodMapping.map(state, ["y": configured]).endpoints[0].kvPull == nil)
    }

    @Test("A pod in two pools belongs to the one that is named first")
    func twoPools() {
        var state = ClusterState()
        state.pools = ["x", "y"].map { ClusterState.Pool(name: $0, ports: [8000], selector: "s", pods: [Self.pod()]) }
        let map = PodMapping.map(state)
        #expect(map.endpoints.map(\.pool) == ["x"])
        #expect(map.pods.map(\.state) == [.serving, .duplicate])
    }
}
