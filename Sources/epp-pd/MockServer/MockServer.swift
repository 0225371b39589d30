// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Fleet
import FlyingFox
import FlyingSocks
import Foundation

/// The HTTP servers of a mock fleet: one per pod.
struct MockServer: Sendable {
    /// Larger bodies are refused. The picker's own default is 20 MiB.
    static let maximumBody = 64 << 20
    /// Longer than any answer takes: FlyingFox wants a limit.
    private static let handlerTimeout: TimeInterval = 24 * 3600

    let fleet: MockFleet

    /// Serves until the task is cancelled or a port cannot be had.
    func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for pod in fleet.pods {
                let server = HTTPServer(
                    address: try .inet(ip4: pod.address, port: pod.port),
                    timeout: Self.handlerTimeout,
                    logger: .disabled,
                    handler: PodHandler(pod: pod, fleet: fleet)
                )
                group.addTask { try await server.run() }
            }
            try await group.next()
            group.cancelAll()
        }
    }
}

/// What one pod answers, by path.
struct PodHandler: HTTPHandler {
    let pod: MockPod
    let fleet: MockFleet
    private let started = Int(Date().timeIntervalSince1970)

    init(pod: MockPod, fleet: MockFleet) {
        self.pod = pod
        self.fleet = fleet
    }

    func handleRequest(_ request: HTTPRequest) async throws -> HTTPResponse {
        switch (request.method, request.path) {
        case (.GET, "/health"), (.GET, "/ping"):
            return HTTPResponse(statusCode: .ok)
        case (.GET, pod.metricsPath):
            return try await metrics()
        case (.GET, "/v1/models"):
            return models()
        case (.GET, "/version"):
            return ServedAnswer.json("{\"version\":\"mock\"}")
        case (.GET, "/kv_event_sources"):
            return pod.publisher.map { ServedAnswer.json($0.sources) } ?? ServedAnswer.json("{}")
        case (.POST, "/tokenize"):
            return tokenize(try await Self.body(of: request))
        case (.POST, "/v1/chat/completions/render"):
            return render(try await Self.body(of: request), isList: false)
        case (.POST, "/v1/completions/render"):
            return render(try await Self.body(of: request), isList: true)
        case (.POST, "/v1/chat/completions"), (.POST, "/v1/completions"):
            guard let body = try await Self.body(of: request) else {
                return ServedAnswer.error(413, type: "BadRequestError", message: "the body is too large")
            }
            let service = CompletionService(pod: pod, fleet: fleet)
            return try await service.answer(request, body: body, isChat: request.path == "/v1/chat/completions")
        default:
            return ServedAnswer.notFound
        }
    }

    /// nil where it is over the limit.
    private static func body(of request: HTTPRequest) async throws -> Data? {
        var data = Data()
        for try await chunk in request.bodySequence {
            guard data.count + chunk.count <= MockServer.maximumBody else { return nil }
            data += chunk
        }
        return data
    }

    /// The page of now, answered later: it is late and old at once.
    private func metrics() async throws -> HTTPResponse {
        let text = await pod.engine.page.text(model: pod.models.first ?? "")
        try await fleet.clock.sleep(for: pod.metricsDelay)
        return HTTPResponse(
            statusCode: .ok,
            headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
            body: Data(text.utf8)
        )
    }

    private func models() -> HTTPResponse {
        let list = pod.models.map { name in
            "{\"id\":\(JSONText.quoted(name)),\"object\":\"model\",\"created\":\(started),\"owned_by\":\"vllm\","
                + "\"root\":\(JSONText.quoted(name)),\"parent\":null,\"max_model_len\":\(pod.maximumLength)}"
        }
        return ServedAnswer.json("{\"object\":\"list\",\"data\":[\(list.joined(separator: ","))]}")
    }

    private struct Question: Decodable {
        var prompt: CompletionRequest.Prompt?
        var messages: [CompletionRequest.Message]?

        static func tokens(_ body: Data?) -> [UInt32]? {
            guard let body, let question = try? JSONDecoder().decode(Question.self, from: body) else { return nil }
            return CompletionRequest.tokens(messages: question.messages, prompt: question.prompt)
        }
    }

    private static let noPrompt = ServedAnswer.error(
        400,
        type: "Bad Request",
        message: "neither prompt nor messages"
    )

    private func tokenize(_ body: Data?) -> HTTPResponse {
        guard let tokens = Question.tokens(body) else { return Self.noPrompt }
        let list = tokens.map(String.init).joined(separator: ",")
        return ServedAnswer.json(
            "{\"count\":\(tokens.count),\"max_model_len\":\(pod.maximumLength),\"tokens\":[\(list)],\"token_strs\":null}"
        )
    }

    /// vLLM answers a chat with one rendered request, and a completion with a list of them.
    private func render(_ body: Data?, isList: Bool) -> HTTPResponse {
        guard let tokens = Question.tokens(body) else { return Self.noPrompt }
        let list = tokens.map(String.init).joined(separator: ",")
        let one =
            "{\"request_id\":\"render\",\"token_ids\":[\(list)],\"token_offsets\":null,\"features\":null,"
            + "\"model\":\(JSONText.quoted(pod.models.first ?? ""))}"
        return ServedAnswer.json(isList ? "[\(one)]" : one)
    }
}
