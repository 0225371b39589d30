// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Fleet
import Simulation

/// Runs one `ModelServer` machine in real time: sleeps until its next event, and tells each job's waiter.
actor MockEngine {
    /// How far a job has come. Only the newest word counts: a slow reader hears of several tokens at once.
    enum Progress: Sendable {
        /// Memory is set aside, and this many tokens of the prompt are cached here: the rest may be sent.
        case reserved(cachedTokens: Int)
        case generated(Int)
        case finished(cachedTokens: Int)
    }

    struct Ticket: Sendable {
        var id: UInt64
        /// Ends without `.finished` when the job is cancelled. Whoever drops it cancels the job.
        var progress: AsyncStream<Progress>
    }

    private struct Job {
        var continuation: AsyncStream<Progress>.Continuation
        var arrived: Instant
        var submitted: Instant
        var promptTokens: Int
        var outputTokens: Int
        var keepsKV: Bool
        var isRemote: Bool
        var started: Instant?
        var lastToken: Instant?
        var firstToken: Instant?
        var cachedTokens = 0
    }

    private var server: ModelServer
    private let clock: ModelClock
    private var jobs: [UInt64: Job] = [:]
    private var held: [String: UInt64] = [:]
    private var nextID: UInt64 = 1
    private var isTicking = false
    private var histograms = EngineHistograms()
    private var transferredTokens = 0
    private var aborted = 0
    private var events: [ServerEvent] = []
    private var reporter: BlockReporter?

    /// `publisher`: where the engine tells what it caches.
    init(
        configuration: ModelServerConfiguration,
        seed: UInt64,
        clock: ModelClock,
        publisher: KVEventPublisher? = nil
    ) {
        var configuration = configuration
        configuration.reportsTokens = true
        configuration.reportsBlocks = publisher != nil
        reporter = publisher.map { BlockReporter(publisher: $0, blockSize: configuration.blockSize) }
        server = ModelServer(configuration: configuration, seed: seed)
        self.clock = clock
    }

    /// Takes a job. `arrived` is when its request came in, which TTFT counts from. Where `isRemote`, the prompt's KV comes
    /// from another server: after `.reserved`, call `kvArrived`. Where `keepsKV`, the KV stays after the end until
    /// `release`. Where it `pulls`, it waits for a prefix from a peer: after `submit`, call `prefixArrived`.
    /// - Returns: nil where the job can never fit.
    func submit(
        tokens: [UInt32],
        cacheSalt: String?,
        hashes: [UInt64],
        outputTokens: Int,
        arrived: Instant,
        isRemote: Bool = false,
        keepsKV: Bool = false,
        pulls: Bool = false
    ) -> Ticket? {
        let id = nextID
        nextID += 1
        let (stream, continuation) = AsyncStream.makeStream(of: Progress.self, bufferingPolicy: .bufferingNewest(1))
        let now = clock.now
        advance(to: now)
        let promptTokens = tokens.count
        reporter?.opened(id, tokens: tokens, hashes: hashes, cacheSalt: cacheSalt)
        jobs[id] = Job(
            continuation: continuation,
            arrived: arrived,
            submitted: now,
            promptTokens: promptTokens,
            outputTokens: outputTokens,
            keepsKV: keepsKV,
            isRemote: isRemote
        )
        let job = ServerJob(
            id: id,
            promptTokens: promptTokens,
            outputTokens: outputTokens,
            promptHashes: hashes,
            source: isRemote ? .remote : .compute,
            awaitsKV: isRemote || pulls,
            keepsKV: keepsKV
        )
        server.submit(job, at: now, into: &events)
        deliver()
        guard jobs[id] != nil else { return nil }
        continuation.onTermination = { [weak self] reason in
            guard case .cancelled = reason else { return }
            Task { await self?.cancel(id) }
        }
        tick()
        return Ticket(id: id, progress: stream)
    }

    func kvArrived(_ id: UInt64, tokens: Int) {
        transferredTokens += tokens
        act { server, now, events in server.kvArrived(id, at: now, into: &events) }
    }

    /// Tokens of a prompt that are cached here.
    func cachedTokens(of hashes: [UInt64], promptTokens: Int) -> Int {
        server.cachedTokens(of: hashes, promptTokens: promptTokens)
    }

    /// These blocks of the prompt were fetched from a peer; the job may start.
    func prefixArrived(_ id: UInt64, blocks: ArraySlice<UInt64>) {
        act { server, now, events in server.kvArrived(id, pulled: blocks, at: now, into: &events) }
        // Where memory is full fewer stay.
        let held = server.heldTokens(of: Array(blocks)) / server.configuration.blockSize
        let stored = blocks.indices.prefix(held)
        if !stored.isEmpty { reporter?.take(ServerEvent(at: clock.now, job: id, kind: .blocksStored(stored))) }
    }

    /// Names the KV that a finished job kept, so that whoever fetches it can give it up.
    func hold(_ id: UInt64, named name: String) { held[name] = id }

    func release(named name: String) {
        guard let id = held.removeValue(forKey: name) else { return }
        act { server, now, events in server.release(id, at: now, into: &events) }
    }

    /// The job is wanted no more; its stream ends.
    func cancel(_ id: UInt64) {
        guard let job = jobs.removeValue(forKey: id) else { return }
        aborted += 1
        job.continuation.finish()
        reporter?.cancelled(id)
        act { server, now, events in server.cancel(id, at: now, into: &events) }
    }

    var page: EnginePage {
        advance(to: clock.now)
        return EnginePage(
            load: server.load(at: clock.now),
            counters: server.counters,
            histograms: histograms,
            transferredTokens: transferredTokens,
            aborted: aborted,
            blockSize: server.configuration.blockSize,
            blocks: server.configuration.capacityTokens / server.configuration.blockSize
        )
    }

    // MARK: Time

    private func act(_ change: (inout ModelServer, Instant, inout [ServerEvent]) -> Void) {
        let now = clock.now
        advance(to: now)
        change(&server, now, &events)
        deliver()
        tick()
    }

    private func advance(to now: Instant) {
        server.advance(to: now, into: &events)
        deliver()
    }

    /// Keeps one task sleeping from event to event while the server is busy. A step that has begun ends when it was
    /// to end, since steps are taken one at a time (`reportsTokens`), so no earlier wake is ever needed.
    private func tick() {
        guard !isTicking, server.nextEvent != nil else { return }
        isTicking = true
        Task {
            while let next = server.nextEvent {
                let wait = clock.wall(next - clock.now)
                if wait > .zero { try? await Task.sleep(for: .seconds(wait.rawValue), tolerance: .zero) }
                advance(to: clock.now)
            }
            isTicking = false
        }
    }

    // MARK: Events

    private func deliver() {
        for event in events {
            reporter?.take(event)
            deliver(event)
        }
        if !events.isEmpty { reporter?.publish() }
        events.removeAll(keepingCapacity: true)
    }

    private func deliver(_ event: ServerEvent) {
        guard var job = jobs[event.job] else { return }
        switch event.kind {
        case .reserved(let cached):
            job.cachedTokens = cached
            if job.started == nil { job.started = event.at }
            job.continuation.yield(.reserved(cachedTokens: cached))
        case .started(let cached):
            job.cachedTokens = max(job.cachedTokens, cached)
            if job.started == nil { job.started = event.at }
        case .firstToken:
            job.firstToken = event.at
            histograms.ttft.observe((event.at - job.arrived).rawValue)
        case .token(let count):
            if let last = job.lastToken { histograms.interToken.observe((event.at - last).rawValue) }
            job.lastToken = event.at
            job.continuation.yield(.generated(count))
        case .finished:
            observe(job, finished: event.at)
            job.continuation.yield(.finished(cachedTokens: job.cachedTokens))
            job.continuation.finish()
            jobs[event.job] = nil
            return
        case .rejected:
            jobs[event.job] = nil
            return
        case .preempted, .blocksStored, .blockRemoved:
            break
        }
        jobs[event.job] = job
    }

    private func observe(_ job: Job, finished: Instant) {
        let started = job.started ?? job.submitted
        let first = job.firstToken ?? finished
        histograms.queue.observe((started - job.submitted).rawValue)
        histograms.prefill.observe((first - started).rawValue)
        histograms.decode.observe((finished - first).rawValue)
        histograms.endToEnd.observe((finished - job.arrived).rawValue)
        histograms.promptTokens.observe(Double(job.promptTokens))
        histograms.generationTokens.observe(Double(job.outputTokens))
        if job.outputTokens > 1 {
            histograms.perOutputToken.observe((finished - first).rawValue / Double(job.outputTokens - 1))
        }
    }
}
