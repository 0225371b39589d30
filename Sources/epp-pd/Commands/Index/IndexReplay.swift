// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Foundation
import PrefixIndex

/// `epp-pd index replay`: what pods would be known to hold after a capture.
struct IndexReplay: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Apply captured KV events and say who holds how much of each prompt.",
        discussion: """
            The folder holds NNNNN.frame0.bin, .frame1.bin and .frame2.bin, as captured from a subscriber. The query file \
            is a list of {"id": …, "tokens": […], "cache_salt": null | "…"}; other keys are ignored.

            Example:
              epp-pd index replay --frames captures/run1 --query prompts.json --json

            Exit codes: 0, 1 when a file cannot be read or used, 2 wrong usage.
            """
    )

    @Option(help: "Folder of captured messages.")
    var frames: String
    @Option(help: "File of prompts.")
    var query: String
    @Option(help: "Write a snapshot of the index here.")
    var snapshot: String?
    @Flag(help: "Print the matches as JSON.")
    var json = false

    struct Query: Decodable {
        var id: Identifier
        var tokens: [UInt32]
        var cache_salt: String?
    }

    /// A query's id, given back as it came.
    enum Identifier: Codable {
        case text(String)
        case integer(Int64)
        case number(Double)

        init(from decoder: any Decoder) throws {
            let value = try decoder.singleValueContainer()
            if let text = try? value.decode(String.self) {
                self = .text(text)
            } else if let integer = try? value.decode(Int64.self) {
                self = .integer(integer)
            } else {
                self = .number(try value.decode(Double.self))
            }
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            switch self {
            case .text(let text): try container.encode(text)
            case .integer(let integer): try container.encode(integer)
            case .number(let number): try container.encode(number)
            }
        }

        var text: String {
            switch self {
            case .text(let text): text
            case .integer(let integer): String(integer)
            case .number(let number): String(number)
            }
        }
    }

    struct Answer: Encodable {
        var id: Identifier
        var matches: [EventReplay.Match]
    }

    func run() throws {
        let replay: EventReplay
        let queries: [Query]
        do {
            replay = try EventReplay(FrameFolder(path: frames))
            queries = try Self.queries(path: query)
        } catch {
            Console.error("\(error)")
            throw ExitCode(1)
        }
        if let snapshot {
            do {
                try Data(replay.index.snapshot()).write(to: URL(filePath: snapshot), options: .atomic)
            } catch {
                Console.error("\(snapshot): cannot be written")
                throw ExitCode(1)
            }
        }
        for complaint in replay.complaints { Console.error(complaint) }
        let answers = queries.map {
            Answer(id: $0.id, matches: replay.matches(tokens: $0.tokens, cacheSalt: $0.cache_salt))
        }
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.withoutEscapingSlashes, .sortedKeys]
            print(String(decoding: try encoder.encode(answers), as: UTF8.self))
        } else {
            for answer in answers {
                let matches = answer.matches.map { "\($0.pod)/\($0.rank) \($0.tier) \($0.tokens)" }
                print("\(answer.id.text): \(matches.isEmpty ? "-" : matches.joined(separator: ", "))")
            }
        }
    }

    private struct Unusable: Error, CustomStringConvertible {
        var description: String
    }

    private static func queries(path: String) throws -> [Query] {
        guard let data = try? Data(contentsOf: URL(filePath: path)) else {
            throw Unusable(description: "\(path): cannot be read")
        }
        do {
            return try JSONDecoder().decode([Query].self, from: data)
        } catch let error as DecodingError {
            throw Unusable(description: "\(path): \(Self.place(error))")
        }
    }

    private static func place(_ error: DecodingError) -> String {
        let context: DecodingError.Context
        switch error {
        case .typeMismatch(_, let at), .valueNotFound(_, let at), .keyNotFound(_, let at), .dataCorrupted(let at):
            context = at
        @unknown default:
            return "not a list of queries"
        }
        let path = context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? ".\($0.stringValue)" }.joined()
        return "\(path.isEmpty ? "" : path + ": ")\(context.debugDescription)"
    }
}
