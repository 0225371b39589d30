// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation

/// The body of a chat or text completion, as far as a mock server needs it.
struct CompletionRequest: Decodable, Sendable {
    struct StreamOptions: Decodable, Sendable {
        var include_usage: Bool?
    }

    struct Message: Decodable, Sendable {
        var role: String
        var content: Text?
    }

    /// A string, or a list of parts of which the text ones count.
    enum Text: Decodable, Sendable {
        case plain(String)
        case parts([String])

        private struct Part: Decodable {
            var text: String?
        }

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let text = try? container.decode(String.self) {
                self = .plain(text)
            } else {
                self = .parts(try container.decode([Part].self).compactMap(\.text))
            }
        }

        var joined: String {
            switch self {
            case .plain(let text): text
            case .parts(let parts): parts.joined(separator: "\n")
            }
        }
    }

    enum Prompt: Decodable, Sendable {
        case text(String)
        case tokens([UInt32])

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let text = try? container.decode(String.self) {
                self = .text(text)
            } else if let tokens = try? container.decode([UInt32].self) {
                self = .tokens(tokens)
            } else {
                let texts = try container.decode([String].self)
                guard let first = texts.first, texts.count == 1 else {
                    throw DecodingError.dataCorruptedError(
                        in: container,
                        debugDescription: "the mock server takes one prompt per request"
                    )
                }
                self = .text(first)
            }
        }
    }

    /// What a sidecar asks of a prefill server.
    struct KVTransfer: Decodable, Sendable {
        /// Where it shall fetch a prefix from.
        struct Source: Decodable, Sendable {
            var remote_host: String
            var remote_port: Int

            var hostPort: String { "\(remote_host):\(remote_port)" }
        }

        var do_remote_decode: Bool?
        var remote_kv_source: Source?
    }

    var model: String
    var stream: Bool?
    var stream_options: StreamOptions?
    var max_tokens: Int?
    var max_completion_tokens: Int?
    var cache_salt: String?
    var messages: [Message]?
    var prompt: Prompt?
    var kv_transfer_params: KVTransfer?

    var limit: Int? { max_completion_tokens ?? max_tokens }
    var streams: Bool { stream ?? false }
    /// A decode server will fetch the KV of this prompt.
    var isForRemoteDecode: Bool { kv_transfer_params?.do_remote_decode ?? false }

    /// The prompt as the model would see it. nil where the body has none.
    var promptTokens: [UInt32]? { Self.tokens(messages: messages, prompt: prompt) }

    static func tokens(messages: [Message]?, prompt: Prompt?) -> [UInt32]? {
        if let messages, !messages.isEmpty { return PseudoTokenizer.tokens(of: render(messages)) }
        switch prompt {
        case .text(let text): return PseudoTokenizer.tokens(of: text)
        case .tokens(let tokens): return tokens
        case nil: return nil
        }
    }

    /// A chat template like those of today's models.
    private static func render(_ messages: [Message]) -> String {
        var text = ""
        for message in messages { text += "<|\(message.role)|>\n\(message.content?.joined ?? "")<|end|>\n" }
        return text + "<|assistant|>\n"
    }
}
