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
        #"{"timestamp": 0, "input_length": 10, "output_length": 1, "hash_ids": []} more"#,
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

    @Test func azureTimesMayBeDatesAndTheHeaderMayBeMissing() throws {
        let published = try AzureTrace.read(
            bytes(
                """
                TIMESTAMP,ContextTokens,GeneratedTokens
                2023-11-16 18:15:46.6805900,374,44
                2023-11-16 18:15:50.9951690,396,109
                2023-11-17T00:00:00Z,10,1
                2023-12-01 00:00:00.5+00:00,10,1

                """
            )
        )
        #expect(published.malformedLines.isEmpty)
        let arrivals = published.workload.requests.map { $0.arrival - published.workload.requests[0].arrival }
        #expect(isNear(arrivals[1], 4.314579, tolerance: 1e-6))
        #expect(isNear(arrivals[2], 5 * 3600 + 44 * 60 + 13.31941, tolerance: 1e-6))
        // 14 days of November after the 16th, and what was left of that day.
        #expect(isNear(arrivals[3], 14 * 86_400 + 20_653.81941, tolerance: 1e-5))
        #expect(published.workload.requests[0].arrival.rounded() == 1_700_158_547)
        // A leap day lies between.
        let leap = try AzureTrace.read(bytes("2024-02-28 23:59:59,1,1\n2024-03-01 00:00:00,1,1\n"))
        #expect(leap.workload.span == 86_401)
        let bare = try AzureTrace.read(bytes("0.000,374,44\n4314.579,396,109\n"))
        #expect(bare.workload.requests.count == 2)
        // A first line that is neither a header nor a request is malformed.
        #expect(throws: WorkloadError.malformed(lines: [1], of: 2)) { _ = try AzureTrace.read(bytes("0,x,4\n1,2,3\n")) }
        for wrong in ["2023-13-01 00:00:00,1,1", "2023-11-16,1,1", "2023-11-16 18:15:46+02:00,1,1", "x,1,1"] {
            #expect(throws: WorkloadError.malformed(lines: [2], of: 1)) {
                _ = try AzureTrace.read(bytes("t_ms,input,output\n\(wrong)\n"))
            }
        }
    }

    @Test func aTraceThatTakesMonthsIsRefused() throws {
        let day = 86_400_000
        _ = try AzureTrace.read(bytes("0,1,1\n\(31 * day),1,1\n"))
        #expect(throws: WorkloadError.tooLong(seconds: 32 * 86_400)) {
            _ = try AzureTrace.read(bytes("0,1,1\n\(32 * day),1,1\n"))
        }
    }

    @Test func evenSpacingKeepsOrderAndSpan() {
        let requests = [5.0, 5, 5, 7, 13].map { OfferedRequest(arrival: $0, promptTokens: 1, outputTokens: 1) }
        let even = Workload(name: "t", blockSize: 1, requests: requests, arrivalsAreTicks: true).evenlySpaced()
        #expect(even.requests.map(\.arrival) == [5, 7, 9, 11, 13])
        #expect(even.scaled(load: 2, seed: 3).requests.map(\.arrival) == [0, 1, 2, 3, 4])
        #expect(even.prefix(1).evenlySpaced().requests.map(\.arrival) == [5])
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
