// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation

/// Writes the answers to one completion: whole, or event by event. The output is made of words of four bytes, one per
/// token, so that an answer that comes back in the next turn's prompt has as many tokens as it was billed for.
struct CompletionText: Sendable {
    struct Usage: Sendable {
        var promptTokens: Int
        var completionTokens: Int
        var cachedTokens: Int

        var json: String {
            "{\"prompt_tokens\":\(promptTokens),\"total_tokens\":\(promptTokens + completionTokens),"
                + "\"completion_tokens\":\(completionTokens),"
                + "\"prompt_tokens_details\":{\"cached_tokens\":\(cachedTokens)}}"
        }
    }

    private static let words = ["one ", "two ", "six ", "ten ", "and ", "the ", "cat ", "sat ", "out ", "now "]

    private let isChat: Bool
    /// The start of every object: id, creation time and model.
    private let head: String
    private let id: String

    init(isChat: Bool, id: String, model: String, created: Int) {
        self.isChat = isChat
        self.id = (isChat ? "chatcmpl-" : "cmpl-") + id
        head = "\"id\":\(JSONText.quoted(self.id)),\"created\":\(created),\"model\":\(JSONText.quoted(model))"
    }

    private static func output(_ range: Range<Int>) -> String { range.map { words[$0 % words.count] }.joined() }

    func whole(_ usage: Usage, kvTransferParameters: String = "null") -> String {
        let text = Self.output(0..<usage.completionTokens)
        let choice =
            isChat
            ? "\"message\":{\"role\":\"assistant\",\"content\":\"\(text)\",\"refusal\":null}"
            : "\"text\":\"\(text)\""
        let object = isChat ? "chat.completion" : "text_completion"
        return "{\(head),\"object\":\"\(object)\",\"choices\":[{\"index\":0,\(choice),\"logprobs\":null,"
            + "\"finish_reason\":\"length\",\"stop_reason\":null}],\"usage\":\(usage.json),"
            + "\"kv_transfer_params\":\(kvTransferParameters)}"
    }

    /// The event before a chat's first token: it names the role.
    var opening: String { isChat ? event("{\"role\":\"assistant\",\"content\":\"\"}", finish: nil) : "" }

    /// One event per token.
    func tokens(_ range: Range<Int>, last: Bool) -> String {
        range.map { index in
            let text = Self.words[index % Self.words.count]
            let finish = last && index == range.upperBound - 1 ? "length" : nil
            return event(isChat ? "{\"content\":\"\(text)\"}" : "\"\(text)\"", finish: finish)
        }.joined()
    }

    func ending(_ usage: Usage?) -> String {
        let object = isChat ? "chat.completion.chunk" : "text_completion"
        let report = usage.map { "data: {\(head),\"object\":\"\(object)\",\"choices\":[],\"usage\":\($0.json)}\n\n" }
        return (report ?? "") + "data: [DONE]\n\n"
    }

    private func event(_ content: String, finish: String?) -> String {
        let object = isChat ? "chat.completion.chunk" : "text_completion"
        let field = isChat ? "delta" : "text"
        let reason = finish.map { "\"\($0)\"" } ?? "null"
        return "data: {\(head),\"object\":\"\(object)\",\"choices\":[{\"index\":0,\"\(field)\":\(content),"
            + "\"logprobs\":null,\"finish_reason\":\(reason)}]}\n\n"
    }
}
