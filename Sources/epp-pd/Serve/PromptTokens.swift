// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Fleet
import Gateway
import PrefixIndex
import Router
import Synchronization

/// Keys of prompts that came as text: from the cache, else from an engine.
final class PromptTokens: Sendable {
    /// Larger bodies are not sent round: copying them costs more than their prefix can save.
    static let maxBodyBytes = 4 << 20
    /// A cached start shorter than this share of the text leaves too much unknown.
    private static let leastShare = 0.9

    private let settings: TokenizerSettings
    private let tokenizer: EngineTokenizer
    private let cache: Mutex<TokenKeyCache>
    private let unit: Int
    private let places: KVEventPlaces
    private let fleet = Mutex(Fleet())

    /// Whom to ask.
    private struct Fleet {
        var endpoints: [Endpoint] = []
        var turn = 0
    }

    /// - Parameters:
    ///   - settings: whom to ask, and how long to wait.
    ///   - unit: tokens to a key of the exact index.
    ///   - places: says whether any engine publishes events; without them nobody is asked.
    init(_ settings: TokenizerSettings, unit: Int, places: KVEventPlaces) {
        self.settings = settings
        self.unit = unit
        self.places = places
        tokenizer = EngineTokenizer(connections: settings.connections)
        cache = Mutex(TokenKeyCache(budget: settings.cacheMiB << 20))
    }

    /// How long a request waits for its tokens.
    var deadline: Seconds { settings.deadline }

    func start() { tokenizer.start() }
    func stop() { tokenizer.stop() }

    func fleetChanged(_ snapshot: FleetSnapshot) {
        let endpoints = snapshot.endpoints.filter { $0.unavailable == nil }.map(\.endpoint)
        fleet.withLock { $0.endpoints = endpoints }
    }

    /// Whether the request's prompt is worth a question.
    func concerns(_ request: ParsedRequest) -> Bool {
        request.tokenKeys == nil && !request.body.isEmpty && request.promptBytes >= settings.leastBytes
            && path(for: request.api) != nil && places.hasPublishers
    }

    /// The keys of all or nearly all of the prompt, where it begins as one that an engine was asked about.
    func cached(_ request: ParsedRequest) -> PrefixKeys? {
        cache.withLock { $0.find(request.textKeys, share: Self.leastShare)?.keys }
    }

    /// Asks an engine. `answer` gets the request with its keys, on another thread; nil where there are none in time.
    /// - Returns: false where nobody can be asked.
    func ask(_ request: ParsedRequest, answer: @escaping @Sendable (ParsedRequest?) -> Void) -> Bool {
        guard let path = path(for: request.api), let endpoint = endpoint(for: request.model) else { return false }
        let question = EngineTokenizer.Question(url: "http://\(endpoint.hostPort)\(path)", body: request.body)
        return tokenizer.ask(question, within: settings.deadline) { [self] tokens in
            guard let tokens, !tokens.isEmpty else { return answer(nil) }
            var hasher = TokenKeyHasher(model: request.model, cacheSalt: request.cacheSalt, tokensPerBlock: unit)
            hasher.update(tokens)
            var known = request
            let keys = hasher.finish()
            known.tokenKeys = keys
            known.promptTokens = tokens.count
            answer(known)
            cache.withLock { $0.insert(request.textKeys, keys) }
        }
    }

    private func path(for api: InferenceAPI) -> String? {
        switch (settings.source, api) {
        case (.tokenize, .chatCompletions), (.tokenize, .completions): "/tokenize"
        case (.render, .chatCompletions): "/v1/chat/completions/render"
        case (.render, .completions): "/v1/completions/render"
        case (.render, .responses): "/v1/responses/render"
        case (.render, .messages): "/v1/messages/render"
        default: nil
        }
    }

    /// The next pod in turn that serves the model and speaks vLLM's API.
    private func endpoint(for model: String?) -> Endpoint? {
        fleet.withLock { fleet in
            for step in 0..<fleet.endpoints.count {
                let place = (fleet.turn + step) % fleet.endpoints.count
                let endpoint = fleet.endpoints[place]
                guard endpoint.engine == "vllm", model.map({ endpoint.servedModels?.contains($0) ?? true }) ?? false
                else { continue }
                fleet.turn = place + 1
                return endpoint
            }
            return nil
        }
    }
}
