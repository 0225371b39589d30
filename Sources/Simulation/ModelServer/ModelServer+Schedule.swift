// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// Composing the next step.
extension ModelServer {
    /// Begins the next step at `t`, if there is anything to do.
    mutating func schedule(at t: Double, into events: inout [ServerEvent]) {
        for slot in joining { join(slot, at: t, into: &events) }
        joining.removeAll(keepingCapacity: true)
        makeRoom(at: t, into: &events)
        chunks.removeAll(keepingCapacity: true)
        var budget = Int.max
        var prompts = 1
        if case .chunked(let tokens) = configuration.batching {
            budget = max(tokens - decoding.count, 1)
            prompts = Int.max
        }
        for slot in prefilling {
            guard budget > 0, chunks.count < prompts else { break }
            budget -= addChunk(slot, budget)
        }
        admit(at: t, budget: &budget, prompts: prompts, into: &events)
        guard !chunks.isEmpty || !decoding.isEmpty else {
            step = nil
            return
        }
        step = chunks.isEmpty ? stretch(from: t) : mixedStep(from: t)
        counters.steps += 1
    }

    private mutating func addChunk(_ slot: Int, _ budget: Int) -> Int {
        let tokens = min(sequences[slot].target - sequences[slot].computed, budget)
        chunks.append((slot, tokens))
        return tokens
    }

    /// Takes sequences from the queue, in order, while memory, budget and the limit of sequences last.
    private mutating func admit(at t: Double, budget: inout Int, prompts: Int, into events: inout [ServerEvent]) {
        var index = 0
        while index < waiting.count,
            prefilling.count + decoding.count + receiving < configuration.maximumSequences
        {
            let slot = waiting[index]
            if sequences[slot].isRemote {
                guard reserve(slot, at: t, into: &events) else { return }
                waiting.remove(at: index)
                if sequences[slot].awaitsKV {
                    sequences[slot].phase = .receiving
                    receiving += 1
                } else {
                    join(slot, at: t, into: &events)
                }
                continue
            }
            if sequences[slot].awaitsKV {
                index += 1
                continue
            }
            guard budget > 0, chunks.count < prompts, reserve(slot, at: t, into: &events) else { return }
            waiting.remove(at: index)
            sequences[slot].phase = .prefilling
            prefilling.append(slot)
            budget -= addChunk(slot, budget)
        }
    }

    /// Takes memory for a sequence's tokens, its cached blocks first. False where there is not enough.
    private mutating func reserve(_ slot: Int, at t: Double, into events: inout [ServerEvent]) -> Bool {
        let (size, hashes) = (configuration.blockSize, sequences[slot].job.promptHashes)
        let target = sequences[slot].target
        let isRemote = sequences[slot].isRemote
        let limit = min(isRemote ? target / size : (target - 1) / size, hashes.count)
        var fresh = 0
        sequences[slot].blocks.removeAll(keepingCapacity: true)
        while sequences[slot].blocks.count < limit, let block = cache.find(hashes[sequences[slot].blocks.count]) {
            if !cache.isReferenced(block) { fresh += 1 }
            sequences[slot].blocks.append(block)
        }
        let cached = sequences[slot].blocks.count * size
        let needed = fresh * size + target - cached
        // Every decoding sequence, this one included, must be able to take its next token.
        guard usedTokens + needed + decoding.count + 1 <= configuration.capacityTokens else {
            sequences[slot].blocks.removeAll(keepingCapacity: true)
            return false
        }
        for block in sequences[slot].blocks { cache.retain(block) }
        usedTokens += needed
        sequences[slot].privateTokens = target - cached
        sequences[slot].computed = cached
        sequences[slot].admission = admissions
        admissions += 1
        shrinkCache(at: t, into: &events)
        if !isRemote {
            counters.prefixQueries += target
            counters.prefixHits += cached
        }
        if sequences[slot].started == nil {
            sequences[slot].started = t
            counters.queueTime = counters.queueTime + Seconds(t - sequences[slot].submitted)
        }
        let kind: ServerEvent.Kind = isRemote ? .reserved(cachedTokens: cached) : .started(cachedTokens: cached)
        events.append(ServerEvent(at: Instant(t), job: sequences[slot].job.id, kind: kind))
        return true
    }

    /// Puts a sequence whose KV is complete into the decode batch.
    mutating func join(_ slot: Int, at t: Double, into events: inout [ServerEvent]) {
        let target = sequences[slot].target
        if sequences[slot].isRemote {
            cachePrompt(of: slot, at: t, into: &events)
            sequences[slot].computed = target
        }
        sequences[slot].phase = .decoding
        sequences[slot].joinStep = decodeSteps
        sequences[slot].finishStep = decodeSteps + sequences[slot].job.outputTokens - sequences[slot].generated
        decoding.append(slot)
        decodeContext += target
    }

    /// Preempts the last admitted sequences until the rest can take its next token.
    private mutating func makeRoom(at t: Double, into events: inout [ServerEvent]) {
        while usedTokens + decoding.count > configuration.capacityTokens, let last = lastAdmitted() {
            preempt(last, at: t, into: &events)
        }
    }

    /// The last admitted sequence, unless it is the only one.
    private func lastAdmitted() -> Int? {
        guard prefilling.count + decoding.count > 1 else { return nil }
        let candidates = [decoding, prefilling].joined()
        return candidates.max { sequences[$0].admission < sequences[$1].admission }
    }

    /// Takes a sequence's memory away; it will be computed again from what is still cached then.
    private mutating func preempt(_ slot: Int, at t: Double, into events: inout [ServerEvent]) {
        if sequences[slot].phase == .decoding {
            let taken = decodeSteps - sequences[slot].joinStep
            decodeContext -= sequences[slot].target + taken
            dropMemory(of: slot)
            decoding.removeAll { $0 == slot }
            sequences[slot].generated += taken
            sequences[slot].target = sequences[slot].job.promptTokens + sequences[slot].generated
        } else {
            dropMemory(of: slot)
            prefilling.removeAll { $0 == slot }
        }
        sequences[slot].finishStep = 0
        sequences[slot].computed = 0
        sequences[slot].isRemote = false
        enqueue(slot)
        counters.preemptions += 1
        events.append(ServerEvent(at: Instant(t), job: sequences[slot].job.id, kind: .preempted))
    }

    /// A step with chunks of prompts in it, beside which every decoding sequence takes one token.
    private mutating func mixedStep(from t: Double) -> ServerStep {
        var (tokens, pairs, context, weighted) = (0.0, 0.0, 0.0, 0.0)
        for chunk in chunks {
            let (n, p) = (Double(chunk.tokens), Double(sequences[chunk.slot].computed))
            tokens += n
            pairs += n * p + n * n / 2
            context += n + p
            weighted += n * sequences[chunk.slot].noise
        }
        let profile = configuration.profile
        let seconds: Double
        if decoding.isEmpty {
            let c = profile.prefill
            seconds =
                c.base + c.perTokenBelowKnee * min(tokens, c.knee) + c.perTokenAboveKnee * max(tokens - c.knee, 0)
                + c.perPair * pairs + c.perContextToken * context
        } else {
            seconds =
                profile.mixed.step(
                    newTokens: tokens,
                    pairs: pairs,
                    chunkContext: context,
                    batch: Double(decoding.count),
                    kvTokens: Double(decodeContext)
                ).rawValue
        }
        let noise = tokens > 0 ? weighted / tokens : 1
        let duration = max(seconds * noise * configuration.slowness, Self.shortestStep)
        return ServerStep(start: t, first: duration, growth: 0, count: 1, batch: decoding.count)
    }

    /// As many decode steps as pass before a sequence ends, memory runs out or a first token is due.
    private mutating func stretch(from t: Double) -> ServerStep {
        let batch = decoding.count
        var count = max((configuration.capacityTokens - usedTokens) / batch, 1)
        for slot in decoding {
            count = min(count, sequences[slot].hasFirstToken ? sequences[slot].finishStep - decodeSteps : 1)
        }
        if configuration.reportsTokens { count = 1 }
        let decode = configuration.profile.decode
        let base = decode.step(batch: Double(batch), kvTokens: Double(decodeContext)).rawValue
        let factor = configuration.slowness * stretchNoise(count)
        return ServerStep(
            start: t,
            first: max(base * factor, Self.shortestStep),
            growth: decode.perKVToken * Double(batch) * factor,
            count: max(count, 1),
            batch: batch
        )
    }

    /// The mean of `count` independent step noises, by the central limit theorem where there are many.
    private mutating func stretchNoise(_ count: Int) -> Double {
        let sigma = configuration.decodeNoise
        guard sigma > 0 else { return 1 }
        guard count > 1 else { return random.logNormal(sigma: sigma) }
        return max(1 + sigma * random.normal() / Double(count).squareRoot(), Self.leastNoise)
    }

    /// A step takes some time under any profile, so that time always moves.
    static var shortestStep: Double { 1e-6 }
    /// No draw makes a step faster than this share of the mean.
    static var leastNoise: Double { 0.2 }
}
