// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation

/// Captured ZeroMQ messages in a folder: NNNNN.frame0.bin (topic), NNNNN.frame1.bin (sequence number) and NNNNN.frame2.bin
/// (batch), in the order of their numbers.
struct FrameFolder {
    struct Message {
        /// The file name's number.
        var number: String
        var topic: String
        /// nil where the frame is not of eight bytes.
        var sequence: UInt64?
        var payload: [UInt8]
    }

    enum Failure: Error, CustomStringConvertible {
        case unreadable(path: String, reason: String)
        case empty(path: String)

        var description: String {
            switch self {
            case .unreadable(let path, let reason): "\(path): \(reason)"
            case .empty(let path): "\(path): no NNNNN.frame2.bin in it"
            }
        }
    }

    let name: String
    let messages: [Message]

    init(path: String) throws {
        let folder = URL(filePath: path).standardizedFileURL
        name = folder.lastPathComponent
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
        } catch {
            throw Failure.unreadable(path: path, reason: "not a folder that can be read")
        }
        let suffix = ".frame2.bin"
        let numbers = names.filter { $0.hasSuffix(suffix) }.map { String($0.dropLast(suffix.count)) }
        guard !numbers.isEmpty else { throw Failure.empty(path: path) }
        // By length first, so that 100000 comes after 99999.
        messages = try numbers.sorted { ($0.count, $0) < ($1.count, $1) }.map { number in
            let topic = try? Self.bytes(folder, "\(number).frame0.bin")
            let sequence = try? Self.bytes(folder, "\(number).frame1.bin")
            return Message(
                number: number,
                topic: topic.map { String(decoding: $0, as: UTF8.self) } ?? "",
                sequence: sequence.flatMap { $0.count == 8 ? $0.reduce(0) { $0 << 8 | UInt64($1) } : nil },
                payload: try Self.bytes(folder, number + suffix)
            )
        }
    }

    /// The pod that a topic `kv@pod@model` names; the folder's name where it names none.
    func pod(of topic: String) -> String {
        let parts = topic.split(separator: "@", omittingEmptySubsequences: false)
        guard parts.count >= 2, parts[0] == "kv" else { return name }
        // A pod's name may hold the sign, a model's does not.
        let pod = parts.count == 2 ? String(parts[1]) : parts[1..<(parts.count - 1)].joined(separator: "@")
        return pod.isEmpty ? name : pod
    }

    private static func bytes(_ folder: URL, _ name: String) throws -> [UInt8] {
        do {
            return Array(try Data(contentsOf: folder.appending(path: name)))
        } catch {
            throw Failure.unreadable(path: name, reason: "cannot be read")
        }
    }
}
