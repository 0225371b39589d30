// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Dispatch
import Foundation
import Router
import Synchronization

/// Writes decisions as JSON lines, off the data plane: a slow disk costs lines, never requests.
final class DecisionLog: Sendable {
    /// Records that wait to be written. Beyond it new ones are dropped and counted.
    private static let longestBacklog = 4096

    private let handle: FileHandle
    private let queue = DispatchQueue(label: "decision-log", qos: .utility)
    private let backlog = Atomic<Int>(0)
    private let droppedCount = Atomic<Int>(0)

    /// - Parameter path: a file, which is begun anew, or `-` for standard output.
    /// - Throws: exit code 2 after naming a file that cannot be written.
    init(path: String) throws {
        if path == "-" {
            handle = .standardOutput
            return
        }
        _ = FileManager.default.createFile(atPath: path, contents: nil)
        guard let handle = FileHandle(forWritingAtPath: path) else {
            Console.error("\(path): cannot be written: does its folder exist?")
            throw ExitCode(2)
        }
        self.handle = handle
    }

    /// Records that were not written.
    var dropped: Int { droppedCount.load(ordering: .relaxed) }

    func write(_ record: DecisionRecord) {
        guard backlog.load(ordering: .relaxed) < Self.longestBacklog else {
            droppedCount.add(1, ordering: .relaxed)
            return
        }
        backlog.add(1, ordering: .relaxed)
        queue.async { [self] in
            defer { backlog.subtract(1, ordering: .relaxed) }
            do {
                try handle.write(contentsOf: Data((JSONLine.encode(record) + "\n").utf8))
            } catch {
                droppedCount.add(1, ordering: .relaxed)
            }
        }
    }

    /// Waits until what was given so far is written.
    func flush() { queue.sync { try? handle.synchronize() } }
}
