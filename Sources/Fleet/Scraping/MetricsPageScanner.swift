// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import Glibc
import Router

/// Reads a metrics page in the Prometheus text format, piece by piece, as it comes from the network.
///
/// A machine without I/O: bytes go in, cut anywhere; `finish` gives what was found. It touches the bytes of wanted lines
/// and the first few of the others. Lines that make no sense are skipped and counted, whatever they hold.
package struct MetricsPageScanner: Sendable {
    /// The longest wanted line of a real vLLM page has 1,051 bytes.
    package static let maxLine = 16 * 1024

    /// Wanted lines that could not be read.
    package private(set) var malformedLines = 0

    private let table: MetricNameTable
    /// The beginning of a line whose end has not come yet, while it may be a wanted one.
    private var pending: [UInt8] = []
    /// The rest of the current line is of no interest.
    private var isSkipping = false
    private var sums: [Double]
    private var counts: [Int]
    private var ranks: [Int]
    private var adapters: AdapterSlots?
    private var adaptersSeenAt = -Double.infinity

    package init(_ table: MetricNameTable) {
        self.table = table
        let count = EngineQuantity.allCases.count
        sums = [Double](repeating: 0, count: count)
        counts = [Int](repeating: 0, count: count)
        ranks = [Int](repeating: Int.max, count: count)
    }

    package mutating func consume(_ bytes: Span<UInt8>) {
        var start = 0
        while start < bytes.count {
            guard let end = bytes.newline(from: start) else {
                keep(bytes.extracting(start...))
                return
            }
            if isSkipping {
                isSkipping = false
            } else if pending.isEmpty {
                read(bytes.extracting(start..<end))
            } else {
                keep(bytes.extracting(start..<end))
                if !isSkipping { readPending() }
                isSkipping = false
            }
            start = end + 1
        }
    }

    /// The page is over; its last line may lack a newline.
    package mutating func finish() -> EngineObservation {
        if !isSkipping, !pending.isEmpty { readPending() }
        var observation = EngineObservation()
        observation.adapters = adapters
        for quantity in EngineQuantity.allCases {
            let index = quantity.rawValue
            guard counts[index] > 0 else { continue }
            let isMean = quantity.combination == .mean
            observation[quantity] = isMean ? sums[index] / Double(counts[index]) : sums[index]
        }
        return observation
    }

    private mutating func keep(_ piece: Span<UInt8>) {
        guard !isSkipping else { return }
        if pending.isEmpty, case .none = table.match(piece) {
            isSkipping = true
            return
        }
        guard pending.count + piece.count <= Self.maxLine else {
            malformedLines += 1
            pending.removeAll(keepingCapacity: true)
            isSkipping = true
            return
        }
        for index in piece.indices { pending.append(piece[index]) }
        if case .none = table.match(pending.span) {
            pending.removeAll(keepingCapacity: true)
            isSkipping = true
        }
    }

    private mutating func readPending() {
        let line = pending
        pending.removeAll(keepingCapacity: true)
        read(line.span)
    }

    private mutating func read(_ line: Span<UInt8>) {
        guard case .group(let group, let nameEnd) = table.match(line) else { return }
        guard let sample = MetricSample(line, from: nameEnd) else {
            malformedLines += 1
            return
        }
        if group == table.adapters { return note(sample, adaptersIn: line) }
        for target in table.targets[group] {
            guard !target.needsLabels || sample.has(target.labels, in: line) else { continue }
            switch target.source {
            case .value: note(sample.value, for: target)
            case .label(let name):
                // `None` is what engines write where they do not know: not an error.
                if let value = sample.number(inLabel: name, of: line) { note(value, for: target) }
            }
        }
    }

    /// Every combination of adapters that there ever was is a series of its own; the latest counts.
    private mutating func note(_ sample: MetricSample, adaptersIn line: Span<UInt8>) {
        guard sample.value.isFinite, sample.value >= adaptersSeenAt else { return }
        guard let slots = Int(sample.text(inLabel: "max_lora", of: line)) else { return }
        adaptersSeenAt = sample.value
        adapters = AdapterSlots(
            slots: slots,
            running: Self.names(sample.text(inLabel: "running_lora_adapters", of: line)),
            waiting: Self.names(sample.text(inLabel: "waiting_lora_adapters", of: line))
        )
    }

    /// Names between commas, with or without blanks.
    private static func names(_ text: String) -> [String] {
        text.split(separator: ",").prefix(AdapterSlots.maximumSlots)
            .map { String($0.drop { $0 == " " }) }.filter { !$0.isEmpty }
    }

    private mutating func note(_ value: Double, for target: MetricNameTable.Target) {
        // Every quantity here is a count, a share or a time: a negative one is no measurement. NaN is legal, and none.
        guard value.isFinite, value >= 0 else { return }
        let index = target.quantity.rawValue
        guard target.rank <= ranks[index] else { return }
        if target.rank < ranks[index] {
            ranks[index] = target.rank
            sums[index] = 0
            counts[index] = 0
        }
        counts[index] += 1
        sums[index] = target.quantity.combination == .last ? value : sums[index] + value
    }
}

extension Span<UInt8> {
    fileprivate func newline(from start: Int) -> Int? {
        unsafe withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress, start < buffer.count else { return nil }
            // memchr reads 32 bytes at a time; within the bounds just checked.
            guard let found = unsafe memchr(base + start, 0x0A, buffer.count - start) else { return nil }
            return unsafe UnsafeRawPointer(found) - UnsafeRawPointer(base)
        }
    }
}
