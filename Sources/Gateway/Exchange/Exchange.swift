// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import PrefixIndex
internal import Router

/// The shell of one exchange: decodes what comes, drives the machine, does what it says.
final class Exchange: GRPCCallHandler, PendingExchange {
    private let id: RequestID
    private let service: ExtProcService
    /// Gone once the call is over, which also parts the two from each other.
    private var call: (any GRPCCall)?
    ///
    /// Not checked for overlapping accesses, like all that is marked so here: each changes by itself, and calls nobody meanwhile.
    @exclusivity(unchecked) private var machine: ExchangeMachine
    /// In place of `machine` where Envoy only lets us watch.
    @exclusivity(unchecked) private var observation: ObservationMachine?
    private var head = RequestHead()
    private var subset: [String]?
    /// By the path alone.
    private var api: InferenceAPI { head.api }
    /// The request's body: gathered once, parsed where it lies, sent on from there.
    @exclusivity(unchecked) private var body = PaddedBytes()
    /// Bytes of the budget that the body has.
    private var charged = 0
    @exclusivity(unchecked) private var uploadDeadline: (any UploadDeadline)?
    private var route: Route?
    /// Reads by itself, and calls nobody meanwhile.
    @exclusivity(unchecked) private var usage: UsageReader?
    /// The model that the body asked for.
    private var askedModel: String?
    /// Where another model serves the request: its answer names the one that was asked for.
    private var answeredModel: AnsweredModel?
    private var knowsResponseHead = false
    /// What was read of the gathered body: nil where none was.
    private var bodyHasPriority: Bool?

    init(id: RequestID, call: any GRPCCall, service: ExtProcService) {
        self.id = id
        self.call = call
        self.service = service
        unsafe machine = ExchangeMachine(service.options, isSampled: service.samplesNext())
    }

    deinit { service.budget.give(charged) }

    // MARK: - GRPCCallHandler

    private static let malformed = GRPCStatus(.invalidArgument, "not a ProcessingRequest")

    func received(_ message: UnsafeRawBufferPointer) {
        let isDecoded = unsafe ProcessingRequest.decode(message) { take($0) }
        if !isDecoded { handle(.violation(Self.malformed)) }
    }

    /// A buffered body comes as one message.
    func receivedTooLarge() -> Bool {
        guard isGathering else { return false }
        let message = "the request body is larger than the limit of the gateway's messages"
        reject(APIError(status: 413, message: message), details: "epp_pd_body_too_large")
        return true
    }

    /// So does the part of a body that is larger than a frame.
    func receivedWithoutRoom() -> Bool {
        guard isGathering else { return false }
        service.budget.noteRefusal()
        rejectForRoom()
        return true
    }

    func remoteEnded() {
        expectHeaders()
        handle(.remoteEnded)
    }

    func closed(_ end: GRPCCallEnd) {
        expectHeaders()
        handle(.closed(end))
        endUpload()
        call = nil
    }

    // MARK: - PendingExchange

    func resolve(_ verdict: Verdict) { handle(.resolved(verdict)) }

    func stalled() {
        guard isGathering else { return }
        reject(
            APIError(status: 408, message: "the request body did not come in time"),
            details: "epp_pd_upload_timeout"
        )
    }

    private func expectHeaders() {
        unsafe machine.expectsResponseHeaders = service.seesHeadersAlone
        unsafe observation?.expectsResponseHeaders = service.seesHeadersAlone
    }

    private var isGathering: Bool { unsafe observation?.isGathering ?? machine.isGathering }

    private func reject(_ error: APIError, details: String, headers: [ImmediateAnswer.Header] = []) {
        handle(.rejected(error.answer(headers: headers, details: details)))
    }

    private func rejectForRoom() {
        reject(
            APIError(status: 503, message: "too many request bodies are held"),
            details: "epp_pd_no_room_for_body",
            headers: [ImmediateAnswer.Header("retry-after", "1")]
        )
    }

    // MARK: - Input

    private func take(_ message: borrowing ProcessingRequest) {
        if message.isObservation, unsafe observation == nil, unsafe machine.isFresh {
            unsafe observation = ObservationMachine(service.options)
        }
        let endOfStream = message.endOfStream
        switch message.phase {
        case .requestHeaders:
            var head = RequestHead()
            guard unsafe service.heads.readRequestHead(of: message, into: &head) else {
                return handle(.violation(Self.malformed))
            }
            self.head = consume head
            readSubset(of: message)
            handle(
                .requestHeaders(endOfStream: endOfStream, contentLength: self.head.contentLength, modes: message.modes)
            )
            if isGathering { unsafe uploadDeadline = service.picker.uploadBegan(of: self) }
        case .requestBody:
            readSubset(of: message)
            guard unsafe hasRoom(for: message.body.count) else { return rejectForRoom() }
            unsafe handle(.requestBody(count: message.body.count, endOfStream: endOfStream), body: message.body)
        case .requestTrailers:
            handle(.requestTrailers)
        case .responseHeaders:
            guard let head = unsafe service.heads.responseHead(of: message) else {
                return handle(.violation(Self.malformed))
            }
            compareServed(in: message)
            knowsResponseHead = true
            if api != .other, !head.answer.isFailure { unsafe usage = UsageReader(head) }
            // What is compressed passes as it is.
            if head.isEncoded { answeredModel = nil }
            handle(.responseHeaders(head.answer, endOfStream: endOfStream))
            if unsafe observation?.sawHeadersAlone ?? machine.sawHeadersAlone { service.seesHeadersAlone = true }
        case .responseBody:
            // Where headers are not sent, the body shows by itself what it is.
            if !knowsResponseHead, unsafe usage == nil, api != .other { unsafe usage = UsageReader() }
            unsafe handle(.responseBody(count: message.body.count, endOfStream: endOfStream), body: message.body)
        case .responseTrailers:
            handle(.responseTrailers)
        case .unknown:
            break
        }
    }

    /// Takes from the budget what the body will be when `count` bytes have joined it.
    private func hasRoom(for count: Int) -> Bool {
        guard isGathering, unsafe count <= service.options.bodyLimit - body.count else { return true }
        if unsafe body.count == 0, let length = head.contentLength {
            unsafe body.announce(min(length, service.options.bodyLimit))
        }
        let wanted = unsafe body.capacity(for: body.count + count)
        guard service.budget.take(wanted - charged) else { return false }
        charged = max(charged, wanted)
        return true
    }

    private func readSubset(of message: borrowing ProcessingRequest) {
        guard message.hasMetadata, !service.options.ignoresSubset else { return }
        let names = service.options.headerNames
        guard let subset = message.metadata(namespace: names.subsetNamespace, key: names.subset)
        else { return }
        // A list of endpoints, or one string of them as a header would carry it.
        self.subset = subset.flatMap { $0.split(separator: ",") }.map { entry in
            String(entry.drop { $0 == " " }.prefix { $0 != " " })
        }
    }

    private func compareServed(in message: borrowing ProcessingRequest) {
        guard message.hasMetadata else { return }
        let names = service.options.headerNames
        if let isFollowed = unsafe observation?.isFollowed {
            let served = message.metadata(namespace: names.destinationNamespace, key: names.served)?.first
            if isFollowed, let served, head.served == nil { service.picker.served(id, Served(destination: served)) }
            return
        }
        guard let route, let observer = service.observer,
            let served = message.metadata(namespace: names.destinationNamespace, key: names.served)?.first,
            !route.destinations.contains(served)
        else { return }
        observer.servedElsewhere(id, picked: route.destinations, served: served)
    }

    // MARK: - Actions

    private func handle(_ input: ExchangeMachine.Input) {
        unsafe handle(input, body: UnsafeRawBufferPointer(start: nil, count: 0))
    }

    private func handle(_ input: ExchangeMachine.Input, body: UnsafeRawBufferPointer) {
        // Held for all actions: finishing may close the call before the last one.
        guard let call else { return }
        let first = unsafe service.actions.count
        if unsafe observation == nil {
            unsafe machine.handle(input, into: &service.actions)
        } else {
            unsafe observation?.handle(input, into: &service.actions)
        }
        for index in unsafe first..<service.actions.count {
            unsafe perform(service.actions[index], body: body, on: call)
        }
        // One by one: nearly always one or two.
        while unsafe service.actions.count > first { unsafe service.actions.removeLast() }
    }

    private func perform(_ action: ExchangeMachine.Action, body chunk: UnsafeRawBufferPointer, on call: any GRPCCall) {
        switch action {
        case .gather: unsafe body.append(chunk)
        case .dropGathered: dropBody()
        case .ask(let wholeBody):
            endUpload()
            ask(wholeBody: wholeBody)
        case .overrideModes(let showsResponse): service.encoder.overrideModes(showsResponse: showsResponse, to: call)
        case .answerRequestHeaders(let route): answerHeaders(route, on: call)
        case .sendGathered(let endOfStream): sendGathered(endOfStream: endOfStream, on: call)
        case .answerBufferedBody(let route): answerBody(route, on: call)
        case .passRequestBody: service.encoder.bareBody(.request, to: call)
        case .answerRequestTrailers: service.encoder.trailers(.request, to: call)
        case .answerResponseHeaders: service.encoder.responseHeaders(decision: route?.decision, to: call)
        case .observe: unsafe usage?.read(chunk)
        case .echoResponseBody(let endOfStream):
            guard answeredModel == nil else { return unsafe echoRewritten(chunk, endOfStream: endOfStream, on: call) }
            unsafe service.encoder.streamedBody(chunk, endOfStream: endOfStream, .response, to: call)
        case .passResponseBody: service.encoder.bareBody(.response, to: call)
        case .answerResponseTrailers:
            endRewritten(on: call)
            service.encoder.trailers(.response, to: call)
        case .answerImmediately(let answer):
            service.observer?.answered(status: answer.status)
            service.encoder.immediate(answer, to: call)
        case .firstToken: service.picker.firstToken(id)
        case .ended(let kind, let status, let isEarly): reportEnd(kind, status: status, isEarly: isEarly)
        case .finish(let status):
            if status.code != .ok { service.observer?.violated(status) }
            call.finish(status)
        }
    }

    /// Bodies from here on are sent from where they lie; copying shorter ones costs less than keeping account of them.
    private static let leastSharedBytes = 16 << 10

    /// The last that is done with the body before it is dropped.
    private func sendGathered(endOfStream: Bool, on call: any GRPCCall) {
        guard unsafe body.count >= Self.leastSharedBytes, let shared = unsafe body.share() else {
            return unsafe service.encoder.streamedBody(body.bytes, endOfStream: endOfStream, .request, to: call)
        }
        unsafe service.encoder.streamedBody(shared.bytes, of: shared, endOfStream: endOfStream, .request, to: call)
    }

    private func echoRewritten(_ chunk: UnsafeRawBufferPointer, endOfStream: Bool, on call: any GRPCCall) {
        var bytes = unsafe answeredModel?.pass(chunk) ?? []
        if endOfStream { bytes += answeredModel?.finish() ?? [] }
        unsafe bytes.withUnsafeBytes {
            unsafe service.encoder.streamedBody($0, endOfStream: endOfStream, .response, to: call)
        }
    }

    /// Trailers end an answer whose last bytes may still be held.
    private func endRewritten(on call: any GRPCCall) {
        guard let rest = answeredModel?.finish(), !rest.isEmpty else { return }
        unsafe rest.withUnsafeBytes {
            unsafe service.encoder.streamedBody($0, endOfStream: false, .response, to: call)
        }
    }

    private func endUpload() {
        unsafe uploadDeadline.take()?.cancel()
    }

    private func dropBody() {
        endUpload()
        unsafe body.drop()
        service.budget.give(charged)
        charged = 0
    }

    private func ask(wholeBody: Bool) {
        // A POST to an API without a body is as bad as one with a wrong body; a GET of the same path has none by nature.
        guard wholeBody, api != .other, unsafe body.count > 0 || head.method == "POST" else {
            return service.picker.decide(parsed(), for: self)
        }
        do {
            unsafe body.pad()
            let inference = try unsafe service.bodies.read(body, of: api)
            bodyHasPriority = inference.hasPriority
            askedModel = inference.model
            service.picker.decide(parsed(inference), for: self)
        } catch {
            handle(.rejected(error.answer(details: "epp_pd_bad_body")))
        }
    }

    /// A request without a body that says anything.
    private func parsed() -> ParsedRequest {
        ParsedRequest(
            id: id,
            api: .other,
            externalID: head.externalID,
            showsFirstToken: showsFirstToken,
            bodyBytes: unsafe body.count,
            serviceLevel: head.serviceLevel,
            objective: head.objective,
            session: head.session,
            subset: subset,
            shadow: shadow
        )
    }

    private func parsed(_ inference: InferenceBody) -> ParsedRequest {
        let isKept = unsafe inference.tokenKeys == nil && body.count <= service.options.keptBodyBytes
        return ParsedRequest(
            id: id,
            api: api,
            externalID: head.externalID,
            model: inference.model,
            streams: inference.streams,
            showsFirstToken: showsFirstToken,
            maxOutputTokens: inference.maxOutputTokens,
            bodyBytes: unsafe body.count,
            promptBytes: inference.promptBytes,
            promptTokens: inference.promptTokens,
            textKeys: inference.textKeys,
            tokenKeys: inference.tokenKeys,
            cacheSalt: inference.cacheSalt,
            promptCacheKey: inference.promptCacheKey,
            user: inference.user,
            body: isKept ? unsafe Array(body.bytes) : [],
            serviceLevel: head.serviceLevel,
            objective: head.objective,
            session: head.session,
            authority: call?.authority ?? "",
            subset: subset,
            shadow: shadow
        )
    }

    private var showsFirstToken: Bool { unsafe machine.showsFirstToken && !service.options.skims }
    private var shadow: Shadow? { unsafe observation == nil ? nil : Shadow(served: head.served) }

    private func answerHeaders(_ route: Route?, on call: any GRPCCall) {
        if let route { self.route = route }
        // Envoy keeps or drops the client's content-length as it is configured; only a body of another size needs a new one.
        let contentLength = route.map(rewriteBody(for:)) == true && head.contentLength != nil ? unsafe body.count : nil
        service.encoder.requestHeaders(
            route,
            destinations: destinations(of: route),
            contentLength: contentLength,
            to: call
        )
    }

    private func answerBody(_ route: Route, on call: any GRPCCall) {
        self.route = route
        let isRewritten = rewriteBody(for: route)
        unsafe service.encoder.bufferedBody(
            route,
            destinations: destinations(of: route),
            body: isRewritten ? body.bytes : nil,
            to: call
        )
    }

    private func destinations(of route: Route?) -> String {
        guard let route else { return "" }
        guard service.options.destinationLimit > 1 else { return route.destinations.first ?? "" }
        return route.destinations.prefix(service.options.destinationLimit).joined(separator: ",")
    }

    /// Puts the route's model name and priority in the gathered body, where it was read.
    ///
    /// - Returns: false where the body stays as the client sent it.
    private func rewriteBody(for route: Route) -> Bool {
        guard let bodyHasPriority, route.rewriteModel != nil || route.enginePriority != nil else { return false }
        let rewrite = BodyRewrite(
            model: route.rewriteModel,
            priority: api.takesPriority ? route.enginePriority : nil,
            hasPriority: bodyHasPriority
        )
        guard let rewritten = unsafe service.bodies.rewritten(body, rewrite) else { return false }
        unsafe body = rewritten
        if let served = route.rewriteModel, let askedModel {
            answeredModel = AnsweredModel(served: served, asked: askedModel)
        }
        return true
    }

    private func reportEnd(_ kind: Outcome.Kind, status: Int?, isEarly: Bool) {
        let usage = unsafe usage?.usage
        service.picker.ended(
            id,
            Outcome(
                kind: kind,
                status: status,
                promptTokens: usage?.promptTokens,
                cachedTokens: usage?.cachedTokens,
                outputTokens: usage?.outputTokens,
                isEarly: isEarly
            )
        )
    }
}
