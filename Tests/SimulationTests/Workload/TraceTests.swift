// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import Simulation

struct TraceTests {
    private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    @Test func mooncakeLinesAreRead() throws {
        let text = """
            {"timestamp": 3000, "input_length": 1100, "output_length": 5, "hash_ids": [0, 7, 9]}
            {"hash_ids":[],"output_length":2,"input_length":100,"timestamp":0}

            """
        let reading = try MooncakeTrace.read(bytes(text))
        #expect(reading.malformedLines.isEmpty)
        let requests = reading.workload.requests
        #expect(requests.map(\.arrival) == [0, 3])
        #expect(requests[1].promptTokens == 1100 && requests[1].outputTokens == 5)
        // 1,100 tokens fill two blocks of 512; the third is not whole.
        #expect(requests[1].promptHashes.count == 2)
        #expect(requests[1].promptHashes[0] != requests[1].promptHashes[1])
    }

    @Test(arguments: [
        "{", "{}", "[]", "nonsense", #"{"timestamp": -1, "input_length": 1, "output_length": 1, "hash_ids": []}"#,
        #"{"timestamp": 0, "input_length": 0, "output_length": 1, "hash_ids": []}"#,
        #"{"timestamp": 0, "input_length": 1e300, "output_length": 1, "hash_ids": []}"#,
        #"{"timestamp": 0, "input_length": 1.5, "output_length": 1, "hash_ids": []}"#,
        #"{"timestamp": 0, "input_length": 10, "output_length": 1, "hash_ids": [1,]}"#,
        #"{"timestamp": 0, "input_length": 10, "output_length": 1, "hash_ids": [1]"#,
        #"{"timestamp": 0, "input_length": 10, "output_length": 1}"#,
        #"{"timestamp": nan, "input_length": 10, "output_length": 1, "hash_ids": []}"#,
    ])
    func malformedLinesAreCountedWithTheirNumbers(line: String) throws {
        let good = #"{"timestamp": 0, "input_length": 10, "output_length": 1, "hash_ids": []}"#
        let text = Array(repeating: good, count: 150).joined(separator: "\n") + "\n" + line + "\n" + good
        let reading = try MooncakeTrace.read(bytes(text))
        #expect(reading.malformedLines == [151])
        #expect(reading.workload.requests.count == 151)
    }

    @Test func moreThanOnePercentStopsTheRun() {
        let good = #"{"timestamp": 0, "input_length": 10, "output_length": 1, "hash_ids": []}"#
        let text = Array(repeating: good, count: 50).joined(separator: "\n") + "\nbad\n"
        #expect(throws: WorkloadError.malformed(lines: [51], of: 51)) { _ = try MooncakeTrace.read(bytes(text)) }
        #expect(throws: WorkloadError.empty) { _ = try MooncakeTrace.read([]) }
    }

    @Test func azureLinesAreRead() throws {
        let reading = try AzureTrace.read(
            bytes("t_ms,input_tokens,output_tokens\r\n0.000,374,44\r\n4314.579,396,109\r\n")
        )
        #expect(reading.workload.requests.map(\.arrival) == [0, 4.314579])
        #expect(reading.workload.requests.map(\.promptTokens) == [374, 396])
        #expect(throws: WorkloadError.malformed(lines: [2], of: 1)) { _ = try AzureTrace.read(bytes("h\n1,2\n")) }
    }

    @Test func loadDividesGapsAndTicksAreSpread() {
        let requests = [0.0, 0, 0, 3, 3, 6].map { OfferedRequest(arrival: $0, promptTokens: 1, outputTokens: 1) }
        let workload = Workload(name: "t", blockSize: 1, requests: requests, arrivalsAreTicks: true)
        let scaled = workload.scaled(load: 2, seed: 3).requests.map(\.arrival)
        #expect(scaled == scaled.sorted())
        #expect(scaled[0...2].allSatisfy { $0 >= 0 && $0 < 1.5 })
        #expect(scaled[3...4].allSatisfy { $0 >= 1.5 && $0 < 3 })
        #expect(Set(scaled).count == 6)
        #expect(scaled != workload.scaled(load: 2, seed: 4).requests.map(\.arrival))
        var plain = workload
        plain.arrivalsAreTicks = false
        #expect(plain.scaled(load: 2, seed: 3).requests.map(\.arrival) == [0, 0, 0, 1.5, 1.5, 3])
    }
}
