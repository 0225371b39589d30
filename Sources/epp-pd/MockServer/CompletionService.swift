// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Fleet
import FlyingFox
import Foundation

/// Serves chat and text completions at one pod of a mock fleet.
struct CompletionService: Sendable {
    /// What a server generates when the request sets no limit.
    static let defaultOutputTokens = 64
    static let prefillerHeader = HTTPHeader("x-prefiller-host-port")
    static let kvSourceHeader = HTTPHeader("x-kv-cache-source-host-port")
    /// How long a prefill pod keeps KV that nobody fetches, in model time: vLLM's default for NIXL.
    static let kvLease = Seconds(480)

    let pod: MockPod
    let fleet: MockFleet

    /// One request, understood.
    private struct Job {
        var request: CompletionRequest
        var arrived: Instant
        var tokens: [UInt32]
        var outputTokens: Int
        var hashes: [UInt64]
        var text: CompletionText
        var name: String
        var watch: PeerWatch?
        /// `ip:port` of a peer that holds more of the prompt's start.
        var kvSource: String?

        var promptTokens: Int { tokens.count }
    }

    private struct Placed {
        var ticket: MockEngine.Ticket
        var prefillCachedTokens: Int?
    }

    private enum Placing {
        case placed(Placed)
        case answer(HTTPResponse)
    }

    func answer(_ http: HTTPRequest, body: Data, isChat: Bool) async throws -> HTTPResponse {
        let arrived = fleet.clock.now
        let request: CompletionRequest
        do {
            request = try JSONDecoder().decode(CompletionRequest.self, from: body)
        } catch {
            return ServedAnswer.error(
                400,
                type: "Bad Request",
                message: "1 validation error: \(error)",
                parameter: "body"
            )
        }
        guard pod.models.contains(request.model) else {
            let valid = pod.models.joined(separator: ", ")
            let message = "The model `\(request.model)` does not exist. Valid aliases: \(valid)."
            return ServedAnswer.error(404, type: "NotFoundError", message: message, parameter: "model")
        }
        guard let tokens = request.promptTokens, !tokens.isEmpty else {
            return ServedAnswer.error(400, type: "BadRequestError", message: "the request has no prompt")
        }
        let output = max(request.limit ?? Self.defaultOutputTokens, 1)
        guard tokens.count <= pod.maximumLength, output <= pod.maximumLength - tokens.count else {
            let message =
                "This model's maximum context length is \(pod.maximumLength) tokens. However, your request needs "
                + "\(tokens.count) input tokens and up to \(output) output tokens."
            return ServedAnswer.error(400, type: "BadRequestError", message: message, parameter: "input_tokens")
        }
        let id = http.headers[HTTPHeader("x-request-id")] ?? UUID().uuidString.lowercased()
        let job = Job(
            request: request,
            arrived: arrived,
            tokens: tokens,
            outputTokens: output,
            hashes: PseudoTokenizer.blockHashes(of: tokens, blockSize: pod.blockSize, salt: request.cache_salt),
            text: CompletionText(
                isChat: isChat,
                id: id,
                model: request.model,
                created: Int(Date().timeIntervalSince1970)
            ),
            name: id,
            watch: PeerWatch(peer: http.remoteAddress, localPort: pod.port),
            kvSource: http.headers[Self.kvSourceHeader] ?? request.kv_transfer_params?.remote_kv_source?.hostPort
        )
        let leg = http.headers[Self.prefillerHeader].map {
            PrefillLeg(hostPort: $0, path: http.path, body: body, kvSource: job.kvSource)
        }
        return try await whilePeerStays(job.watch) { try await serve(job, leg: leg) }
    }

    /// Runs `work` until it ends or the client leaves, which cancels it.
    private func whilePeerStays(
        _ watch: PeerWatch?,
        _ work: @escaping @Sendable () async throws -> HTTPResponse
    ) async throws -> HTTPResponse {
        guard let watch else { return try await work() }
        return try await withThrowingTaskGroup(of: HTTPResponse?.self) { group in
            group.addTask { try await work() }
            group.addTask {
                try await watch.untilItLeaves()
                return nil
            }
            defer { group.cancelAll() }
            guard let answer = try await group.next(), let answer else { throw CancellationError() }
            return answer
        }
    }

    private func serve(_ job: Job, leg: PrefillLeg?) async throws -> HTTPResponse {
        let placing: Placing
        if let leg { placing = try await receive(job, leg) } else { placing = try await compute(job) }
        switch placing {
        case .answer(let answer): return answer
        case .placed(let placed):
            return job.request.streams ? stream(job, placed) : try await whole(job, placed)
        }
    }

    /// The pod computes the prompt itself.
    private func compute(_ job: Job) async throws -> Placing {
        try await fleet.clock.sleep(for: pod.profile.ttftOverhead)
        let pull = await pull(job)
        let ticket = await pod.engine.submit(
            tokens: job.tokens,
            cacheSalt: job.request.cache_salt,
            hashes: job.hashes,
            outputTokens: job.outputTokens,
            arrived: job.arrived,
            keepsKV: job.request.isForRemoteDecode,
            pulls: pull != nil
        )
        guard let ticket else { return .answer(tooLarge(job)) }
        if let pull {
            try await fleet.clock.sleep(for: fleet.pull(tokens: pull.tokens, from: pull.peer, to: pod))
            // What the peer has dropped in the meantime did not come.
            let held = await pull.peer.engine.cachedTokens(of: job.hashes, promptTokens: job.promptTokens)
            await pod.engine.prefixArrived(ticket.id, blocks: job.hashes.prefix(held / pod.blockSize))
        }
        return .placed(Placed(ticket: ticket, prefillCachedTokens: nil))
    }

    /// Tokens that the named peer holds now and this pod does not. Peers that another process plays are not asked.
    private func pull(_ job: Job) async -> (peer: MockPod, tokens: Int)? {
        guard pod.pulls, let source = job.kvSource, source != pod.hostPort, let peer = fleet.pod(at: source),
            peer.blockSize == pod.blockSize
        else { return nil }
        let there = await peer.engine.cachedTokens(of: job.hashes, promptTokens: job.promptTokens)
        let here = await pod.engine.cachedTokens(of: job.hashes, promptTokens: job.promptTokens)
        return there > here ? (peer, there - here) : nil
    }

    /// Another pod computes the prompt; its KV is fetched once memory is set aside for it here.
    private func receive(_ job: Job, _ leg: PrefillLeg) async throws -> Placing {
        let outcome = await leg.run()
        try Task.checkCancellation()
        guard case .ready(let remoteRequest, let cached) = outcome else {
            guard case .refused(let answer) = outcome else { throw CancellationError() }
            return .answer(answer)
        }
        let ticket = await pod.engine.submit(
            tokens: job.tokens,
            cacheSalt: job.request.cache_salt,
            hashes: job.hashes,
            outputTokens: job.outputTokens,
            arrived: job.arrived,
            isRemote: true
        )
        guard let ticket else { return .answer(tooLarge(job)) }
        let prefiller = fleet.pod(at: leg.hostPort)
        for await word in ticket.progress {
            guard case .reserved(let held) = word else { continue }
            let missing = max(job.promptTokens - held, 0)
            try await fleet.clock.sleep(
                for: fleet.transfer(tokens: missing, promptTokens: job.promptTokens, from: prefiller, to: pod)
            )
            await pod.engine.kvArrived(ticket.id, tokens: missing)
            if let prefiller, let remoteRequest { await prefiller.engine.release(named: remoteRequest) }
            return .placed(Placed(ticket: ticket, prefillCachedTokens: cached))
        }
        throw CancellationError()
    }

    private func tooLarge(_ job: Job) -> HTTPResponse {
        let message = "The prompt of \(job.promptTokens) tokens does not fit into the KV cache."
        return ServedAnswer.error(400, type: "BadRequestError", message: message, parameter: "input_tokens")
    }

    private func stream(_ job: Job, _ placed: Placed) -> HTTPResponse {
        let body = TokenStream(
            ticket: placed.ticket,
            text: job.text,
            promptTokens: job.promptTokens,
            outputTokens: job.outputTokens,
            prefillCachedTokens: placed.prefillCachedTokens,
            includesUsage: job.request.stream_options?.include_usage ?? false,
            guardian: StreamGuardian(job.watch, engine: pod.engine, job: placed.ticket.id)
        )
        return HTTPResponse(
            statusCode: .ok,
            headers: [.contentType: "text/event-stream; charset=utf-8"],
            body: HTTPBodySequence(from: body)
        )
    }

    private func whole(_ job: Job, _ placed: Placed) async throws -> HTTPResponse {
        for await word in placed.ticket.progress {
            guard case .finished(let cached) = word else { continue }
            let usage = CompletionText.Usage(
                promptTokens: job.promptTokens,
                completionTokens: job.outputTokens,
                cachedTokens: placed.prefillCachedTokens ?? cached
            )
            guard job.request.isForRemoteDecode else { return ServedAnswer.json(job.text.whole(usage)) }
            await lend(job, placed.ticket.id)
            return ServedAnswer.json(job.text.whole(usage, kvTransferParameters: parameters(job)))
        }
        throw CancellationError()
    }

    /// Keeps the prompt's KV for the decode pod, until it has fetched it or the lease runs out.
    private func lend(_ job: Job, _ id: UInt64) async {
        let (engine, clock, name) = (pod.engine, fleet.clock, job.name)
        await engine.hold(id, named: name)
        Task {
            try await clock.sleep(for: Self.kvLease)
            await engine.release(named: name)
        }
    }

    /// What vLLM's NIXL connector tells the decode server, as far as it matters here.
    private func parameters(_ job: Job) -> String {
        let blocks = (0..<(job.promptTokens + pod.blockSize - 1) / pod.blockSize).map(String.init).joined(
            separator: ","
        )
        return "{\"do_remote_prefill\":true,\"do_remote_decode\":false,\"remote_block_ids\":[[\(blocks)]],"
            + "\"remote_engine_id\":\(JSONText.quoted(pod.name)),\"remote_request_id\":\(JSONText.quoted(job.name)),"
            + "\"remote_host\":\(JSONText.quoted(pod.address)),\"remote_port\":\(pod.port),"
            + "\"tp_size\":\(pod.kv.tensorParallel),\"remote_num_tokens\":\(job.promptTokens)}"
    }
}

/// Cancels a streamed job when its client leaves between two tokens. Lives as long as the stream.
final class StreamGuardian: Sendable {
    private let task: Task<Void, any Error>?

    init(_ watch: PeerWatch?, engine: MockEngine, job: UInt64) {
        task = watch.map { watch in
            Task {
                try await watch.untilItLeaves()
                await engine.cancel(job)
            }
        }
    }

    deinit { task?.cancel() }
}
