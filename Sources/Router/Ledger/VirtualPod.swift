// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A model server's prompt queue, replayed: which prompt runs, until when, and which wait behind it.
///
/// The server tells almost nothing: first tokens of answers that stream, seen after transfer and first decode step. So
/// the pod is simulated from what was sent to it, and each first token shifts the simulation to what really happened.
/// Prompts run one after another, in the order in which they were sent. Times are seconds of the router's clock.
struct VirtualPod: Sendable {
    struct Job: Sendable {
        var request: RequestID
        /// Predicted seconds of service.
        var work: Double
        /// Predicted seconds from the prompt's end to its first token being seen.
        var tail: Double
        /// False for answers that do not stream: no first token will be seen, so the model's end is taken as the end.
        var reports: Bool
        /// When the pod may begin it.
        var readyAt: Double
        /// When the model says its service ended. Set once it did.
        var modelEnd = 0.0
        /// When its service began, where both neighbours' events say so.
        var startedAt: Double?
        var foundIdle = false
    }

    /// How long a prompt's service was seen to take, and whether the pod had been idle before.
    struct Service: Sendable {
        var seconds: Double
        var wasIdle: Bool
    }

    /// Ended in the model, first token not seen yet. Oldest first.
    private(set) var unseen: [Job] = []
    /// The first one runs; the others wait, in the pod's order.
    private(set) var queue: [Job] = []
    /// Predicted end of the running job; meaningless when none runs.
    private(set) var runningEnd = 0.0
    /// Seconds of work behind the running job.
    private(set) var waitingWork = 0.0

    var count: Int { unseen.count + queue.count }
    var isEmpty: Bool { unseen.isEmpty && queue.isEmpty }

    /// A silent job is given up this long after its predicted end, plus three times its work: long beyond any error of
    /// the model, so something else happened to it.
    static let silence = 5.0
    /// An overdue first token delays what follows by at most the job's work and this much: beyond, it is lost, not late.
    static let overdueLimit = 0.3
    /// Prompts are taken as overtaken, rather than merely unseen, when the model ended them this share of their work,
    /// half their tail and 60 ms before one that was seen. Measured in the simulator.
    static let overtakenShare = 0.3
    static let overtakenSlack = 0.06

    mutating func add(_ job: Job, now: Double) {
        advance(to: now)
        var job = job
        if queue.isEmpty {
            // Seen to be idle: the start is known, and with it the length of service once the end is seen.
            if unseen.isEmpty {
                job.startedAt = job.readyAt
                job.foundIdle = true
            }
            runningEnd = max(now, job.readyAt) + job.work
        } else {
            waitingWork += job.work
        }
        queue.append(job)
    }

    /// Moves on what the model says has ended by now.
    @inline(__always)
    mutating func advance(to now: Double) {
        if !queue.isEmpty, runningEnd <= now { finishDue(now) }
        if !unseen.isEmpty, now - unseen[0].modelEnd > Self.silence { dropSilent(now) }
    }

    private mutating func finishDue(_ now: Double) {
        while let first = queue.first, runningEnd <= now {
            var done = first
            done.modelEnd = runningEnd
            queue.removeFirst()
            if done.reports { unseen.append(done) }
            startNext(at: done.modelEnd, isObserved: false)
        }
    }

    private mutating func dropSilent(_ now: Double) {
        unseen.removeAll { now - $0.modelEnd > Self.silence + 3 * $0.work }
    }

    private mutating func startNext(at time: Double, isObserved: Bool) {
        guard !queue.isEmpty else {
            waitingWork = 0
            return
        }
        let start = max(time, queue[0].readyAt)
        runningEnd = start + queue[0].work
        queue[0].startedAt = isObserved ? start : nil
        sumWaiting()
    }

    private mutating func sumWaiting() {
        var sum = 0.0
        for job in queue.dropFirst() { sum += job.work }
        waitingWork = sum
    }

    /// The first token of `request` was seen, so its prompt ended at `end`.
    /// - Returns: how long its service really took, where its start was seen too.
    mutating func observe(_ request: RequestID, end: Double, now: Double) -> Service? {
        advance(to: now)
        if let at = unseen.firstIndex(where: { $0.request == request }) {
            let job = unseen.remove(at: at)
            let shift = end - job.modelEnd
            // What the model ended after it, ended that much later or earlier too.
            for later in unseen.indices where later >= at { unseen[later].modelEnd += shift }
            if !queue.isEmpty { runningEnd += shift }
            returnOvertaken(before: end, now: now)
            if at == 0 { setStart(after: end) }
            return service(job, end)
        }
        guard let at = queue.firstIndex(where: { $0.request == request }) else { return nil }
        let job = queue.remove(at: at)
        if at == 0 {
            startNext(at: end, isObserved: true)
        } else {
            // It overtook the one that the model ran: that one starts over.
            runningEnd = max(end, queue[0].readyAt) + queue[0].work
            sumWaiting()
        }
        returnOvertaken(before: end, now: now)
        return at == 0 ? service(job, end) : nil
    }

    private func service(_ job: Job, _ end: Double) -> Service? {
        job.startedAt.map { Service(seconds: end - $0, wasIdle: job.foundIdle) }
    }

    /// The oldest prompt was seen to end: that is when the next one's service began.
    private mutating func setStart(after end: Double) {
        if !unseen.isEmpty {
            unseen[0].startedAt = max(end, unseen[0].readyAt)
        } else if !queue.isEmpty {
            queue[0].startedAt = max(end, queue[0].readyAt)
        }
    }

    /// Streaming jobs that the model ended well before `end`, and that gave no token, have not run yet.
    private mutating func returnOvertaken(before end: Double, now: Double) {
        var index = 0
        while index < unseen.count {
            let job = unseen[index]
            let patience = Self.overtakenShare * job.work + job.tail / 2 + Self.overtakenSlack
            guard job.modelEnd < end - patience else {
                index += 1
                continue
            }
            var again = unseen.remove(at: index)
            again.startedAt = nil
            if queue.isEmpty {
                queue.append(again)
                runningEnd = max(end, again.readyAt) + again.work
            } else {
                queue.insert(again, at: 1)
                sumWaiting()
            }
        }
    }

    /// The request is over, of whatever cause. Unknown ones are ignored.
    mutating func remove(_ request: RequestID, now: Double) {
        advance(to: now)
        if let at = unseen.firstIndex(where: { $0.request == request }) {
            unseen.remove(at: at)
        } else if let at = queue.firstIndex(where: { $0.request == request }) {
            queue.remove(at: at)
            if at == 0 {
                startNext(at: now, isObserved: false)
            } else {
                sumWaiting()
            }
        }
    }

    /// Predicted seconds until a prompt sent now could start. Call `advance` first.
    @inline(__always)
    func backlog(at now: Double) -> Double {
        var seconds = queue.isEmpty ? 0 : max(runningEnd - now, 0) + waitingWork
        if !unseen.isEmpty {
            let overdue = max(now - unseen[0].modelEnd - unseen[0].tail, 0)
            seconds += min(overdue, unseen[0].work + Self.overdueLimit)
        }
        return seconds
    }

    /// The moment from which the backlog is at most `limit`, if nothing is added and no token is overdue.
    func timeBelow(_ limit: Double) -> Double { queue.isEmpty ? 0 : runningEnd + waitingWork - limit }
}
