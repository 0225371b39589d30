// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Fleet
import Foundation
import Router
import TestSupport
import Testing

private func scan(_ text: String, _ metrics: EngineMetrics = .vllm, pieces: [Int] = []) -> EngineObservation {
    scan([UInt8](text.utf8), metrics, pieces: pieces)
}

/// Scans bytes cut at the given places.
private func scan(_ bytes: [UInt8], _ metrics: EngineMetrics = .vllm, pieces: [Int] = []) -> EngineObservation {
    var scanner = MetricsPageScanner(MetricNameTable(metrics))
    var start = 0
    for end in pieces + [bytes.count] {
        scanner.consume(bytes.span.extracting(start..<end))
        start = end
    }
    return scanner.finish()
}

private func page(_ name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: fixture("vllm/\(name).txt")))
}

@Suite struct MetricsPageScannerTests {
    @Test func readsAPageUnderLoad() throws {
        let seen = try scan(page("metrics-under-load-waiting"))
        #expect(seen[.waiting] == 18)
        #expect(seen[.running] == 1)
        #expect(seen[.kvUse] == 0.20512820512820518)
        #expect(seen[.kvBlocks] == 40)
        #expect(seen[.kvBlockSize] == 32)
        #expect(seen[.preemptions] == 71)
        #expect(seen[.prefixQueries] == 46845)
        #expect(seen[.prefixHits] == 352)
        #expect(seen[.promptTokens] == 46845)
        #expect(seen[.generationTokens] == 14075)
        #expect(seen[.finishedRequests] == 661)
        #expect(seen[.processStart] == 1.79521169874e+09)
        #expect(seen.queueTime == EngineObservation.Phase(seconds: 17.84451509899418, requests: 661))
        #expect(seen.prefillTime == EngineObservation.Phase(seconds: 18.767409607996797, requests: 661))
        #expect(seen.decodeTime?.requests == 661)
        let load = seen.load(observedAt: Instant(3))
        let expected = EndpointLoad(
            observedAt: Instant(3),
            waiting: 18,
            running: 1,
            kvUse: 0.20512820512820518,
            kvBlocks: 40,
            kvBlockSize: 32,
            preemptions: 71
        )
        #expect(load == expected)
    }

    @Test(arguments: [
        ("metrics-idle-fresh", 0, 0), ("metrics-after-samples", 0, 0), ("metrics-idle-after-load", 0, 0),
        ("metrics-under-load-running", 4, 21),
    ])
    func readsTheOtherPages(_ name: String, _ waiting: Int, _ running: Int) throws {
        let load = try #require(try scan(page(name)).load(observedAt: .origin))
        #expect(load.waiting == waiting)
        #expect(load.running == running)
    }

    /// However the bytes are cut, the same comes out: byte by byte, and every cut in two around each wanted line.
    @Test func cutsDoNotMatter() throws {
        let bytes = try page("metrics-under-load-running")
        let whole = scan(bytes)
        #expect(scan(bytes, pieces: Array(1..<bytes.count)) == whole)
        let text = """
            # HELP vllm:num_requests_waiting x
            vllm:num_requests_waiting_by_reason{reason="capacity"} 9
            vllm:num_requests_waiting{engine="0",model_name="a } b \\" c"} 4.0
            vllm:num_requests_running 3
            vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1.0\r
            vllm:kv_cache_usage_perc{engine="0"} 0.5 1700000000
            """
        let small = [UInt8](text.utf8)
        let expected = scan(small)
        #expect(expected[.waiting] == 4)
        #expect(expected[.running] == 3)
        #expect(expected[.kvUse] == 0.5)
        #expect(expected[.kvBlockSize] == 16)
        #expect(expected[.kvBlocks] == nil)
        for cut in 1..<small.count { #expect(scan(small, pieces: [cut]) == expected) }
        #expect(scan(small, pieces: Array(1..<small.count)) == expected)
        var random = SplitMix64(seed: 1)
        for _ in 0..<10 {
            let cuts = (0..<20).map { _ in Int.random(in: 0...bytes.count, using: &random) }.sorted()
            #expect(scan(bytes, pieces: cuts) == whole)
        }
    }

    @Test func namesMatchExactly() {
        let seen = scan(
            "vllm:num_requests_waiting_by_reason 5\nvllm:num_requests_waitin 5\nxvllm:num_requests_waiting 5\n"
        )
        #expect(seen == EngineObservation())
        #expect(seen.isEmpty)
        #expect(seen.load(observedAt: .origin) == nil)
    }

    @Test func theLatestWordOnAdaptersCounts() {
        func line(_ running: String, _ waiting: String, _ time: String, slots: String = "4") -> String {
            "vllm:lora_requests_info{max_lora=\"\(slots)\",running_lora_adapters=\"\(running)\","
                + "waiting_lora_adapters=\"\(waiting)\"} \(time)\n"
        }
        let seen = scan(
            line("old", "", "1.7e+09") + line("sql, chat", "law", "1.700000002e+09") + line("", "", "1.700000001e+09")
                + line("bad", "", "NaN") + line("bad", "", "1.8e+09", slots: "many")
        )
        #expect(seen.adapters == AdapterSlots(slots: 4, running: ["sql", "chat"], waiting: ["law"]))
        // It is no load by itself.
        #expect(seen.isEmpty)
        #expect(scan("vllm:num_requests_running 1\n").adapters == nil)
        let whole = line("sql", "", "5") + "vllm:num_requests_running 1\n"
        for cut in 1..<whole.utf8.count { #expect(scan([UInt8](whole.utf8), pieces: [cut]) == scan(whole)) }
        #expect(scan(whole).load(observedAt: .origin)?.adapters?.running == ["sql"])
    }

    @Test func seriesOfSeveralEnginesAreCombined() {
        let seen = scan(
            """
            vllm:num_requests_waiting{engine="0"} 1
            vllm:num_requests_waiting{engine="1"} 2
            vllm:kv_cache_usage_perc{engine="0"} 0.2
            vllm:kv_cache_usage_perc{engine="1"} 0.6
            vllm:cache_config_info{block_size="16",num_gpu_blocks="10"} 1
            vllm:cache_config_info{block_size="16",num_gpu_blocks="10"} 1
            """
        )
        #expect(seen[.waiting] == 3)
        #expect(seen[.kvUse] == 0.4)
        #expect(seen[.kvBlocks] == 20)
        #expect(seen[.kvBlockSize] == 16)
    }

    @Test func earlierNamesOfAnEngineAreVoidBesideTheirSuccessors() {
        let old = "vllm:gpu_cache_usage_perc 0.9\n"
        #expect(scan(old)[.kvUse] == 0.9)
        #expect(scan(old + "vllm:kv_cache_usage_perc 0.1\n")[.kvUse] == 0.1)
        #expect(scan("vllm:kv_cache_usage_perc 0.1\n" + old)[.kvUse] == 0.1)
    }

    @Test func otherEngines() throws {
        let sglang = scan(
            """
            sglang:num_queue_reqs{model_name="m"} 2.0
            sglang:num_running_reqs{model_name="m"} 7.0
            sglang:token_usage{model_name="m"} 0.25
            sglang:cache_config_info{page_size="64",num_pages="100"} 1.0
            """,
            .sglang
        )
        let sglangLoad = EndpointLoad(
            observedAt: .origin,
            waiting: 2,
            running: 7,
            kvUse: 0.25,
            kvBlocks: 100,
            kvBlockSize: 64
        )
        #expect(sglang.load(observedAt: .origin) == sglangLoad)
        let trtllm = scan(
            """
            trtllm_num_requests_waiting 1
            trtllm_num_requests_running 2
            trtllm_kv_cache_utilization 0.5
            trtllm_kv_cache_tokens_per_block 32
            trtllm_kv_cache_max_blocks 1000
            """,
            .trtllm
        )
        let trtllmLoad = EndpointLoad(
            observedAt: .origin,
            waiting: 1,
            running: 2,
            kvUse: 0.5,
            kvBlocks: 1000,
            kvBlockSize: 32
        )
        #expect(trtllm.load(observedAt: .origin) == trtllmLoad)
        let triton = scan(
            """
            nv_inference_pending_request_count{model="ensemble",version="1"} 99
            nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 3
            nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 4
            nv_trt_llm_request_metrics{model="m",request_type="max",version="1"} 512
            nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m"} 0.125
            nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m"} 800
            nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="m"} 64
            """,
            .triton
        )
        let tritonLoad = EndpointLoad(
            observedAt: .origin,
            waiting: 3,
            running: 4,
            kvUse: 0.125,
            kvBlocks: 800,
            kvBlockSize: 64
        )
        #expect(triton.load(observedAt: .origin) == tritonLoad)
        let plain = scan("nv_inference_pending_request_count{model=\"m\"} 5\n", .triton)
        #expect(plain.load(observedAt: .origin)?.waiting == 5)
    }

    @Test func configuredNames() throws {
        let running = try #require(MetricSelector(parsing: "tgi_batch_current_size{kind=a, other=\"b\"}"))
        #expect(running.labels == [MetricSelector.Label("kind", "a"), MetricSelector.Label("other", "b")])
        let metrics = EngineMetrics(
            engine: "tgi",
            entries: [.init(.waiting, ["tgi_queue_size"]), .init(.running, [running])]
        )
        let seen = scan("tgi_queue_size 3\ntgi_batch_current_size{other=\"b\",kind=\"a\"} 4\n", metrics)
        #expect(seen[.waiting] == 3)
        #expect(seen[.running] == 4)
        #expect(scan("tgi_batch_current_size{kind=\"a\"} 4\n", metrics)[.running] == nil)
        for wrong in ["", "a b", "a{", "a{b}", "a{b=}", "a{b=c}d", "a{=c}"] {
            #expect(MetricSelector(parsing: wrong) == nil, "\(wrong)")
        }
    }

    @Test(arguments: ["NaN", "+Inf", "-1", "x", "", "{", "1e999", "{a=\"b\" 1", "{a=b} 1", "{=\"b\"} 1", "{a=\"b\"}"])
    func valuesThatAreNoMeasurementAreLeftOut(_ rest: String) {
        let seen = scan(
            "vllm:num_requests_waiting\(rest.hasPrefix("{") ? "" : " ")\(rest)\nvllm:num_requests_running 2\n"
        )
        #expect(seen[.waiting] == nil)
        #expect(seen[.running] == 2)
    }

    @Test func hugeNumbersDoNotOverflow() {
        let load = scan("vllm:num_requests_waiting 1e300\nvllm:kv_cache_usage_perc 7\n").load(observedAt: .origin)
        #expect(load?.waiting == 1_000_000_000)
        #expect(load?.kvUse == 1)
    }

    @Test func linesAreBounded() {
        let long = "vllm:num_requests_waiting{a=\"" + String(repeating: "x", count: 20_000) + "\"} 1\n"
        let bytes = [UInt8]((long + "vllm:num_requests_running 2\n").utf8)
        // In one piece the line is at hand anyway; in pieces it would have to be kept.
        #expect(scan(bytes, pieces: [1000, 9000, 19_000])[.waiting] == nil)
        #expect(scan(bytes, pieces: [1000, 9000, 19_000])[.running] == 2)
    }

    @Test func garbageIsSurvived() throws {
        var random = SplitMix64(seed: 7)
        let good = try page("metrics-under-load-running")
        for round in 0..<60 {
            var bytes = Array(good.prefix(20_000))
            for _ in 0..<(round * 5) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                bytes[at] = UInt8.random(in: 0...255, using: &random)
            }
            let cut = Int.random(in: 0..<bytes.count, using: &random)
            let seen = scan(bytes, pieces: [cut])
            #expect(seen == scan(bytes))
        }
        #expect(scan([UInt8](repeating: 0xFF, count: 100_000)).isEmpty)
        #expect(scan("<html>not metrics</html>").isEmpty)
    }
}
