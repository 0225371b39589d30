// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Glibc

/// What a ledger says of its pod now.
struct LedgerView {
    var backlog: Double
    var batch: Double
    var kvTokens: Double
    var outstandingTokens: Double
    var localShare: Double
}

/// What the Router believes about one pod's work: its own part replayed, others' part as scrapes show it.
struct PodLedger: Sendable {
    private(set) var prompts = VirtualPod()
    private(set) var decodes = DecodeBatch()
    /// Requests that use this pod in any part.
    private(set) var inFlight = 0
    /// Prompts sent here and not known to be computed, in tokens.
    private(set) var promptTokens = 0

    /// Sequences and KV tokens that are not ours, seconds of prompts that are not ours (or that we count and the pod
    /// does not: below zero).
    private(set) var foreignBatch = 0.0
    private(set) var foreignTokens = 0.0
    private var foreignBacklog = 0.0
    private var foreignSeenAt = 0.0
    private var meanWork = 0.0

    /// Which LoRA adapters it has in its slots.
    var adapters = AdapterCache()

    private var preemptions: Int?
    /// When a scrape last showed that the engine had preempted requests.
    private(set) var preemptedAt: Double?

    /// Work of prompts that the pod computed itself between its decodes, decaying over the guard's window.
    private var localWork = 0.0
    private var localAt = 0.0

    /// Share of a difference that one scrape corrects: three or four scrapes follow a step, and one stale page does not.
    static let driftGain = 0.3

    mutating func begin() { inFlight += 1 }
    mutating func finish() { inFlight = max(inFlight - 1, 0) }

    mutating func sendPrompt(_ job: VirtualPod.Job, tokens: Int, now: Double) {
        prompts.add(job, now: now)
        promptTokens += tokens
        meanWork = meanWork == 0 ? job.work : meanWork + 0.1 * (job.work - meanWork)
    }

    mutating func promptSeen(_ request: RequestID, tokens: Int, end: Double, now: Double) -> VirtualPod.Service? {
        promptTokens = max(promptTokens - tokens, 0)
        return prompts.observe(request, end: end, now: now)
    }

    mutating func dropPrompt(_ request: RequestID, tokens: Int, now: Double) {
        promptTokens = max(promptTokens - tokens, 0)
        prompts.remove(request, now: now)
    }

    mutating func computeLocally(_ work: Double, window: Double, now: Double) {
        localWork = decayedLocalWork(window: window, now: now) + work
        localAt = now
    }

    private func decayedLocalWork(window: Double, now: Double) -> Double {
        localWork == 0 ? 0 : localWork * exp(-max(now - localAt, 0) / max(window, 1e-3))
    }

    /// Share of recent time that went into prompts computed here, at most 0.95.
    func localShare(window: Double, now: Double) -> Double {
        guard localWork > 0 else { return 0 }
        let work = decayedLocalWork(window: window, now: now)
        return work < 1e-4 ? 0 : min(work / max(window, 1e-3), 0.95)
    }

    mutating func assign(prompt: Int, output: Int) { decodes.assign(prompt: prompt, output: output) }
    mutating func advance(to now: Double) { decodes.advance(to: now) }
    mutating func join(prompt: Int, in seconds: Double) -> Double { decodes.join(prompt: prompt, in: seconds) }
    mutating func release(prompt: Int, output: Int, joinedAt: Double?) {
        decodes.release(prompt: prompt, output: output, joinedAt: joinedAt)
    }

    /// Brings the replay to now.
    @inline(__always)
    mutating func look(window: Double, now: Double) -> LedgerView {
        prompts.advance(to: now)
        decodes.advance(to: now)
        var foreign = foreignBacklog
        if foreign > 0 { foreign = max(foreign - max(now - foreignSeenAt, 0), 0) }
        let assigned = Double(decodes.assigned)
        let batch = max(assigned + foreignBatch, 0)
        let own = decodes.outstandingTokens
        return LedgerView(
            backlog: max(prompts.backlog(at: now) + foreign, 0),
            batch: batch,
            kvTokens: max(decodes.kvTokens + foreignTokens, 0),
            // Others' sequences are taken to be like ours.
            outstandingTokens: assigned > 0 ? own * batch / assigned : own,
            localShare: localShare(window: window, now: now)
        )
    }

    /// Seconds of one decode step from now on.
    @inline(__always)
    mutating func setPace(_ step: Double, batch: Double, kvTokens: Double) {
        decodes.setStep(step, batch: batch, kvTokens: kvTokens)
    }

    /// A scrape tells how the pod differs from the replay.
    mutating func observe(_ load: EndpointLoad, role: Role, capacity: Double, now: Double) {
        prompts.advance(to: now)
        decodes.advance(to: now)
        let seen = max(Double(load.waiting), 0) + max(Double(load.running), 0)
        let queued = Double(prompts.queue.count)
        if role == .prefill {
            correctBacklog(seen - queued)
        } else {
            let batch = max(seen - Double(decodes.assigned), 0)
            foreignBatch += Self.driftGain * (batch - foreignBatch)
            if load.kvUse.isFinite {
                // Between what decodes and what was sent, the pod may hold any part: no difference.
                let held = min(max(load.kvUse, 0), 1) * capacity
                let tokens = held - min(max(held, decodes.decodingTokens), decodes.kvTokens)
                foreignTokens += Self.driftGain * (tokens - foreignTokens)
            }
            correctBacklog(Double(max(load.waiting, 0)) - queued)
        }
        foreignSeenAt = load.observedAt.rawValue
        if let seen = load.preemptions {
            if let before = preemptions, seen > before { preemptedAt = now }
            preemptions = seen
        }
    }

    /// One prompt fewer than ours is normal: it may be on its way.
    private mutating func correctBacklog(_ difference: Double) {
        let prompts = difference < 0 ? min(difference + 1, 0) : difference
        foreignBacklog += Self.driftGain * (prompts * meanWork - foreignBacklog)
    }

    /// The last scrape is too old: own counts only.
    mutating func forgetForeign() {
        foreignBatch = 0
        foreignTokens = 0
        foreignBacklog = 0
    }

    var isIdle: Bool { inFlight == 0 && prompts.isEmpty && decodes.assigned == 0 && promptTokens == 0 }
}
