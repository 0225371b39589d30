// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Foundation
import Simulation

/// How far a long command is, on standard error, where that is a terminal.
final class ProgressBar {
    private let isShown: Bool
    private let width = 30
    private var last = -1
    private var label = ""

    init() { isShown = isatty(2) == 1 }

    func begin(_ label: String) {
        self.label = label
        last = -1
        show(0)
    }

    func show(_ share: Double) {
        let filled = Int(min(max(share, 0), 1) * Double(width))
        guard isShown, filled != last else { return }
        last = filled
        let bar = String(repeating: "█", count: filled) + String(repeating: "·", count: width - filled)
        write("\r\(bar) \(label)\u{1B}[K")
    }

    func clear() {
        if isShown { write("\r\u{1B}[K") }
    }

    private func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}

/// Runs as a table for people: one row per policy and load, the mean over seeds, with its range where there are several.
enum RunTable {
    static func rendered(_ runs: [PolicyRun]) -> String {
        var table = TextTable([
            ("policy", .left), ("load", .right), ("TTFT mean", .right), ("p50", .right), ("p90", .right),
            ("p99", .right), ("TPOT mean", .right), ("p90", .right), ("SLO %", .right), ("goodput", .right),
            ("$/1k", .right), ("hit %", .right), ("long p99", .right), ("refused", .right), ("failed", .right),
            ("decisions/s", .right),
        ])
        var keys: [String] = []
        var groups: [String: [PolicyRun]] = [:]
        for run in runs {
            let key = "\(run.load) \(run.policy)"
            if groups[key] == nil { keys.append(key) }
            groups[key, default: []].append(run)
        }
        for key in keys { if let group = groups[key] { table.add(row(group)) } }
        return table.rendered()
    }

    private static func row(_ runs: [PolicyRun]) -> [String] {
        func mean(_ value: (PolicyMetrics) -> Double) -> Double {
            runs.reduce(0) { $0 + value($1.metrics) } / Double(runs.count)
        }
        func ranged(_ digits: Int, _ value: (PolicyMetrics) -> Double) -> String {
            let values = runs.map { value($0.metrics) }
            let text = Numbers.fixed(mean(value), digits)
            guard runs.count > 1, let low = values.min(), let high = values.max() else { return text }
            return "\(text) [\(Numbers.fixed(low, digits)) … \(Numbers.fixed(high, digits))]"
        }
        return [
            runs[0].policy, "\(runs[0].load)", ranged(0, \.ttftMean), Numbers.fixed(mean(\.ttftP50), 0),
            Numbers.fixed(mean(\.ttftP90), 0), Numbers.fixed(mean(\.ttftP99), 0), Numbers.fixed(mean(\.tpotMean), 1),
            Numbers.fixed(mean(\.tpotP90), 1), ranged(2) { $0.sloAttainment * 100 }, Numbers.fixed(mean(\.goodput), 2),
            Numbers.fixed(mean(\.busyDollarsPerThousand), 2), Numbers.fixed(mean(\.prefixHitRatio) * 100, 1),
            Numbers.fixed(mean(\.longPromptP99Slowdown), 1), Numbers.fixed(mean { Double($0.rejected) }, 0),
            Numbers.fixed(mean { Double($0.failed) }, 0), Numbers.fixed(mean(\.decisionsPerSecond), 0),
        ]
    }

    static func bounds(_ runs: [ExperimentResults.Run]) -> String {
        var table = TextTable([
            ("bounds", .left), ("load", .right), ("TTFT floor mean", .right), ("p50", .right), ("p90", .right),
            ("p99", .right), ("pooled SRPT mean", .right), ("utilisation %", .right), ("infinite-cache hit %", .right),
            ("fluid TTFT", .right), ("$/1k floor", .right), ("fluid max load", .right), ("5 % free", .right),
            ("SLO % at most", .right), ("95 % up to", .right),
        ])
        for run in runs {
            let b = run.bounds
            table.add([
                "seed \(run.seed)", "\(run.load)", Numbers.fixed(b.ttftFloorMean, 0), Numbers.fixed(b.ttftFloorP50, 0),
                Numbers.fixed(b.ttftFloorP90, 0), Numbers.fixed(b.ttftFloorP99, 0), Numbers.fixed(b.pooledMean, 0),
                Numbers.fixed(b.pooledUtilisation * 100, 1), Numbers.fixed(b.infiniteCacheHitRatio * 100, 1),
                b.fluidTTFTMean.map { Numbers.fixed($0, 0) } ?? "–",
                b.busyDollarsPerThousand.map { Numbers.fixed($0, 2) } ?? "–", Numbers.fixed(b.highestLoad, 2),
                Numbers.fixed(b.highestLoadAt95, 2), b.timelyShare.map { Numbers.fixed($0 * 100, 2) } ?? "–",
                b.timelyLoadAt95.map { Numbers.fixed($0, 2) } ?? "–",
            ])
        }
        return table.rendered()
    }
}

/// Writes a result to a file, `-` being standard output.
enum ResultFile {
    static func write(_ text: String, to path: String) throws {
        let data = Data((text.hasSuffix("\n") ? text : text + "\n").utf8)
        guard path != "-" else {
            FileHandle.standardOutput.write(data)
            return
        }
        do {
            try data.write(to: URL(filePath: path))
        } catch {
            Console.error("\(path) cannot be written: \(error.localizedDescription)")
            throw ExitCode(1)
        }
    }

    /// Says before a long run that its result could not be written. Leaves what is there alone.
    static func check(_ path: String, isStandardOutput: Bool = true) throws {
        if path == "-", isStandardOutput { return }
        let folder = URL(filePath: path).deletingLastPathComponent().path
        let files = FileManager.default
        let isFolder = (try? URL(filePath: path).resourceValues(forKeys: [.isDirectoryKey]).isDirectory) ?? false
        guard path != "-", !path.isEmpty, !isFolder,
            files.isWritableFile(atPath: files.fileExists(atPath: path) ? path : folder)
        else { throw ValidationError("\(path) cannot be written") }
    }

    static func makeFolder(_ path: String) throws {
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        } catch {
            throw ValidationError("the folder \(path) cannot be made: \(error.localizedDescription)")
        }
    }

    /// One value on one line, as machines read it.
    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}

/// Nanoseconds of a clock that only goes forward.
func monotonicNanoseconds() -> UInt64 {
    DispatchTime.now().uptimeNanoseconds
}
