// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Gateway
import Router
import Transport

/// The picker as the exchanges of one loop see it: asks the one Router, and brings its verdicts back to this loop.
///
/// `@unchecked Sendable`: all state is touched by the loop's thread alone; other threads only `deliver`, which posts.
final class LoopPicker: Picker, @unchecked Sendable {
    /// A request from its decision's being asked for to its end.
    private struct Open {
        let exchange: any PendingExchange
        let since: MonotonicTime
        let streams: Bool
        var isRouted = false
        /// What it was expected to find cached, once it is routed.
        var forecast: CacheForecast?
    }

    /// A request whose prompt an engine cuts into tokens, and how long that may take.
    private struct Unread {
        let request: ParsedRequest
        let patience: LoopTimer
    }

    private let host: RouterHost
    private let loop: EventLoop
    /// Longest time that a request may be open, on the wall. nil: no limit.
    private let timeout: Duration?
    /// Longest time that a body may take to come, on the wall. nil: no limit.
    private let uploadTimeout: Duration?
    /// nil where engines are not asked.
    private let tokens: PromptTokens?
    private var numbers: RequestNumbers
    /// Not checked for overlapping accesses, like `uploads`: nobody is called while they change.
    @exclusivity(unchecked) private var open: [RequestID: Open] = [:]
    private var unread: [RequestID: Unread] = [:]
    @exclusivity(unchecked) private var uploads = Uploads()
    /// Whether a look at what is open, or on its way, is already scheduled.
    private var willLookAtOpen = false
    private var willLookAtUploads = false

    init(host: RouterHost, loop: EventLoop, timeout: Duration?, uploadTimeout: Duration?, tokens: PromptTokens?) {
        self.host = host
        self.tokens = tokens
        self.loop = loop
        self.timeout = timeout
        self.uploadTimeout = uploadTimeout
        numbers = RequestNumbers(loop: loop.index)
    }

    var loopIndex: Int { loop.index }

    func nextRequestID() -> RequestID { numbers.next() }

    // MARK: - Picker

    func uploadBegan(of exchange: any PendingExchange) -> (any UploadDeadline)? {
        guard let uploadTimeout else { return nil }
        if !willLookAtUploads {
            willLookAtUploads = true
            lookAtUploads(after: uploadTimeout)
        }
        return unsafe Upload(picker: self, token: uploads.add(exchange, at: loop.now))
    }

    /// A body on its way. Its exchange is held until it cancels this, at its end at the latest: a weak reference would make
    /// every other one slow.
    private struct Upload: UploadDeadline {
        let picker: LoopPicker
        let token: Uploads.Token

        func cancel() { unsafe picker.uploads.remove(token) }
    }

    func decide(_ request: ParsedRequest, for exchange: any PendingExchange) {
        let id = request.id
        unsafe open[id] = Open(exchange: exchange, since: loop.now, streams: request.streams)
        if let timeout, !willLookAtOpen {
            willLookAtOpen = true
            lookAtOpen(after: timeout)
        }
        guard let tokens, tokens.concerns(request) else {
            return host.arrived(request, keys: request.tokenKeys == nil ? .text : .request, on: self)
        }
        var known = request
        known.tokenKeys = tokens.cached(request)
        known.body = []
        guard known.tokenKeys == nil else { return host.arrived(known, keys: .cache, on: self) }
        read(request, known, by: tokens)
    }

    /// Waits for the prompt's tokens as for a verdict: the exchange holds, the loop goes on.
    private func read(_ request: ParsedRequest, _ bare: ParsedRequest, by tokens: PromptTokens) {
        let id = request.id
        let isAsked = tokens.ask(request) { [self] answer in
            loop.post { [self] in wasRead(id, answer) }
        }
        guard isAsked else { return host.arrived(bare, keys: .late, on: self) }
        let patience = loop.schedule(after: .seconds(tokens.deadline.rawValue)) { [self] in wasRead(id, nil) }
        unread[id] = Unread(request: bare, patience: patience)
    }

    /// The tokens are there, or are waited for no longer. The first word counts.
    private func wasRead(_ id: RequestID, _ answer: ParsedRequest?) {
        guard let waiting = unread.removeValue(forKey: id) else { return }
        waiting.patience.cancel()
        var request = answer ?? waiting.request
        request.body = []
        host.arrived(request, keys: answer == nil ? .late : .engine, on: self)
    }

    /// The first bytes of an answer that does not stream are its last ones too: its end says all.
    func firstToken(_ request: RequestID) {
        guard let place = unsafe open.index(forKey: request), unsafe open.values[place].streams else { return }
        host.firstToken(request, on: self)
    }

    func served(_ request: RequestID, _ served: Served) { host.served(request, served) }

    func ended(_ request: RequestID, _ outcome: Outcome) {
        let forecast = forget(request)?.forecast
        host.ended(request, outcome, forecast, on: self)
    }

    // MARK: - From the host

    /// May be called on any thread.
    func deliver(_ answer: RouterHost.Answer, from current: LoopPicker?) {
        if current === self { return resolve(answer) }
        loop.post { [self] in resolve(answer) }
    }

    /// Runs `action` on this loop after a span of wall time. May be called on any thread.
    func schedule(after wall: Seconds, _ action: @escaping @Sendable () -> Void) {
        loop.post { [loop] in loop.schedule(after: .seconds(wall.rawValue), action) }
    }

    /// A request that left meanwhile is not open any more, and has been told to have ended.
    private func resolve(_ answer: RouterHost.Answer) {
        guard let place = unsafe open.index(forKey: answer.request), unsafe !open.values[place].isRouted else { return }
        let exchange = unsafe open.values[place].exchange
        switch answer.verdict {
        case .route:
            unsafe open.values[place].isRouted = true
            unsafe open.values[place].forecast = answer.forecast
        // The exchange of a refused request tells of no end.
        case .answer: forget(answer.request)
        }
        exchange.resolve(answer.verdict)
    }

    @discardableResult
    private func forget(_ id: RequestID) -> Open? {
        stopReading(id)
        return unsafe open.removeValue(forKey: id)
    }

    private func stopReading(_ id: RequestID) {
        if !unread.isEmpty { unread.removeValue(forKey: id)?.patience.cancel() }
    }

    // MARK: - Deadlines

    /// Nearly all that has a deadline ends before it, and a timer each would cost more than a look at all of them now and
    /// then. So deadlines pass up to this share of their span late, and a second at most.
    private static func period(_ span: Duration) -> Duration { min(max(span / 16, .milliseconds(5)), .seconds(1)) }

    private func lookAtOpen(after timeout: Duration) {
        loop.schedule(after: Self.period(timeout)) { [self] in
            let now = loop.now
            // In the order of arrival, whatever the table's is.
            let late = unsafe open.filter { $0.value.since + timeout <= now }.keys.sorted()
            for id in late { expire(id) }
            willLookAtOpen = unsafe !open.isEmpty
            if willLookAtOpen { lookAtOpen(after: timeout) }
        }
    }

    private func lookAtUploads(after timeout: Duration) {
        loop.schedule(after: Self.period(timeout)) { [self] in
            let now = loop.now
            for exchange in unsafe uploads.takeLate(by: timeout, at: now) { exchange.stalled() }
            willLookAtUploads = unsafe !uploads.isEmpty
            if willLookAtUploads { lookAtUploads(after: timeout) }
        }
    }

    /// Envoy ends no request of its own in full duplex, so a pod that never answers would hold it, and its part of the
    /// ledger, for ever.
    private func expire(_ id: RequestID) {
        guard let request = forget(id) else { return }
        // A routed request's exchange tells of its end itself.
        if !request.isRouted { host.ended(id, Outcome(kind: .timedOut), nil, on: self) }
        request.exchange.resolve(.answer(RefusalAnswer.timedOut))
    }
}
