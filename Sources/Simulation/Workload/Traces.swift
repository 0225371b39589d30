// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The traces that Mooncake published (FAST'25): one JSON object per line with `timestamp` in ms, `input_length`,
/// `output_length` and `hash_ids`, the ids of the prompt's 512-token blocks. Equal ids mean an equal prefix.
package enum MooncakeTrace {
    package static let blockSize = 512
    /// Longer than any context window; keeps sums far from overflow.
    static let maximumTokens = 100_000_000
    static let maximumBlocks = 1_000_000

    package static func read(_ bytes: [UInt8], name: String = "mooncake") throws(WorkloadError) -> TraceReading {
        var scanner = LineScanner(bytes)
        var requests: [OfferedRequest] = []
        var malformed: [Int] = []
        var lines = 0
        while let line = scanner.next() {
            guard line.contains(where: { $0 > 0x20 }) else { continue }
            lines += 1
            if let request = request(line) { requests.append(request) } else { malformed.append(scanner.number) }
        }
        // The published ones fall on ticks of about three seconds. Where no two arrive together there are no ticks.
        let hasTicks = Set(requests.map(\.arrival)).count < requests.count
        let workload = Workload(name: name, blockSize: blockSize, requests: requests, arrivalsAreTicks: hasTicks)
        return try TraceReading.judge(workload, malformed: malformed, lines: lines)
    }

    private static func request(_ line: ArraySlice<UInt8>) -> OfferedRequest? {
        var reader = NumberReader(line)
        guard reader.take(UInt8(ascii: "{")) else { return nil }
        var timestamp: Double?
        var (input, output): (Int?, Int?)
        var hashes: [UInt64]?
        repeat {
            guard let key = reader.string(), reader.take(UInt8(ascii: ":")) else { return nil }
            switch String(decoding: key, as: UTF8.self) {
            case "timestamp": timestamp = reader.number()
            case "input_length": input = reader.count(limit: maximumTokens)
            case "output_length": output = reader.count(limit: maximumTokens)
            case "hash_ids": hashes = ids(&reader)
            default: return nil
            }
        } while reader.take(UInt8(ascii: ","))
        guard reader.take(UInt8(ascii: "}")) else { return nil }
        reader.skipBlanks()
        guard reader.isAtEnd, let timestamp, let input, let output, let hashes, input > 0, output > 0
        else { return nil }
        // The last id names a block that is not full, unless the length says so: only full blocks can be reused.
        let full = Array(hashes.prefix(input / blockSize))
        return OfferedRequest(arrival: timestamp / 1000, promptTokens: input, outputTokens: output, promptHashes: full)
    }

    private static func ids(_ reader: inout NumberReader) -> [UInt64]? {
        guard reader.take(UInt8(ascii: "[")) else { return nil }
        var ids: [UInt64] = []
        if reader.take(UInt8(ascii: "]")) { return ids }
        repeat {
            guard ids.count < maximumBlocks, let id = reader.count(limit: 1 << 53) else { return nil }
            // Spread: consecutive ids must not be neighbours in anybody's table.
            var mix = RandomStream(seed: UInt64(id))
            ids.append(mix.next())
        } while reader.take(UInt8(ascii: ","))
        return reader.take(UInt8(ascii: "]")) ? ids : nil
    }
}

/// The Azure LLM inference traces (Splitwise, ISCA'24): CSV with a header line or without, then the time, input tokens and
/// output tokens. Times are dates as published, `2023-11-16 18:15:46.6805900`, or milliseconds since the first request.
/// The traces tell nothing of prefixes.
package enum AzureTrace {
    package static func read(_ bytes: [UInt8], name: String = "azure") throws(WorkloadError) -> TraceReading {
        var scanner = LineScanner(bytes)
        var requests: [OfferedRequest] = []
        var malformed: [Int] = []
        var lines = 0
        while let line = scanner.next() {
            guard line.contains(where: { $0 > 0x20 }) else { continue }
            let request = request(line)
            // A header has a name for each column.
            if scanner.number == 1, request == nil, isHeader(line) { continue }
            lines += 1
            if let request { requests.append(request) } else { malformed.append(scanner.number) }
        }
        let workload = Workload(name: name, blockSize: 16, requests: requests)
        return try TraceReading.judge(workload, malformed: malformed, lines: lines)
    }

    private static func request(_ line: ArraySlice<UInt8>) -> OfferedRequest? {
        var reader = NumberReader(line)
        let comma = UInt8(ascii: ",")
        guard let time = reader.date() ?? reader.number().map({ $0 / 1000 }), reader.take(comma),
            let input = reader.count(limit: MooncakeTrace.maximumTokens), reader.take(comma),
            let output = reader.count(limit: MooncakeTrace.maximumTokens), input > 0, output > 0
        else { return nil }
        reader.skipBlanks()
        guard reader.isAtEnd else { return nil }
        return OfferedRequest(arrival: time, promptTokens: input, outputTokens: output)
    }

    private static func isHeader(_ line: ArraySlice<UInt8>) -> Bool {
        line.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false).allSatisfy { column in
            column.contains { $0 | 0x20 >= UInt8(ascii: "a") && $0 | 0x20 <= UInt8(ascii: "z") }
        }
    }
}
