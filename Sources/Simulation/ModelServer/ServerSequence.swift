// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A job inside a model server.
struct ServerSequence: Sendable {
    enum Phase: Sendable { case free, waiting, receiving, joining, prefilling, decoding, held }

    var job: ServerJob
    var phase = Phase.waiting
    /// Order of submission: the queue's order within equal priority, kept over preemptions.
    var order: UInt64
    var submitted: Double
    var started: Double?
    var prefilled = 0.0
    var awaitsKV: Bool
    /// True while the prompt's KV is to come from another server. A preemption turns it false: it is recomputed here.
    var isRemote: Bool
    var isCancelled = false
    var hasFirstToken = false
    /// Tokens to be in KV before decoding goes on: the prompt, and what was generated before a preemption.
    var target: Int
    /// Tokens of `target` in KV.
    var computed = 0
    /// Tokens generated when the sequence last joined the decode batch or left it.
    var generated = 0
    /// The server's count of decode steps at which the sequence joined, and at which it will end.
    var joinStep = 0
    var finishStep = 0
    /// Order of admission to memory: the last admitted is the first preempted.
    var admission: UInt64 = 0
    /// Cached blocks that this sequence holds, in order.
    var blocks: [Int32] = []
    /// Tokens in memory outside of those blocks, when the sequence last joined the decode batch.
    var privateTokens = 0
    /// What this prompt truly takes over what it should.
    var noise = 1.0

    init(job: ServerJob, order: UInt64, submitted: Double, noise: Double) {
        self.job = job
        self.order = order
        self.submitted = submitted
        self.noise = noise
        awaitsKV = job.awaitsKV
        isRemote = job.source == .remote
        target = job.promptTokens
    }
}

/// The engine step in progress; where nothing but decoding goes on, a stretch of many equal ones.
///
/// Each decode step is longer than the one before by `growth`, because each sequence's context grows by a token. So the
/// end of the k-th step is a polynomial of k, and a stretch costs the same however long it is.
struct ServerStep: Sendable {
    var start: Double
    /// Duration of the first step.
    var first: Double
    var growth: Double
    /// Steps until something changes.
    var count: Int
    /// Sequences that decode.
    var batch: Int

    func end(of k: Int) -> Double {
        let n = Double(k)
        return start + n * first + growth * n * (n - 1) / 2
    }

    var end: Double { end(of: count) }

    /// Steps ended at or before `t`.
    func completed(at t: Double) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high + 1) / 2
            if end(of: middle) <= t { low = middle } else { high = middle - 1 }
        }
        return low
    }
}
