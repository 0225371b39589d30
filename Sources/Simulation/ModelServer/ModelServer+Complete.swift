// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// What the end of a step brings.
extension ModelServer {
    /// Ends the step in progress.
    mutating func complete(_ current: ServerStep, into events: inout [ServerEvent]) {
        let end = current.end
        step = nil
        counters.busyTime = counters.busyTime + Seconds(end - current.start)
        if !decoding.isEmpty {
            let tokens = current.count * decoding.count
            decodeSteps += current.count
            decodeContext += tokens
            usedTokens += tokens
            counters.generationTokens += tokens
            endDecodes(at: end, into: &events)
        }
        endChunks(at: end, into: &events)
        shrinkCache(at: end, into: &events)
    }

    private mutating func endDecodes(at end: Double, into events: inout [ServerEvent]) {
        var index = 0
        while index < decoding.count {
            let slot = decoding[index]
            if sequences[slot].isCancelled {
                leave(slot, index)
                dropMemory(of: slot)
                recycle(slot)
                continue
            }
            let id = sequences[slot].job.id
            if !sequences[slot].hasFirstToken {
                sequences[slot].hasFirstToken = true
                sequences[slot].prefilled = end
                events.append(ServerEvent(at: Instant(end), job: id, kind: .firstToken))
            }
            if configuration.reportsTokens {
                let count = sequences[slot].generated + decodeSteps - sequences[slot].joinStep
                events.append(ServerEvent(at: Instant(end), job: id, kind: .token(count: count)))
            }
            if sequences[slot].finishStep <= decodeSteps {
                let privateNow = privateTokens(of: slot)
                leave(slot, index)
                sequences[slot].generated = sequences[slot].job.outputTokens
                sequences[slot].privateTokens = privateNow
                sequences[slot].phase = .held
                finish(slot, at: end, into: &events)
            } else {
                index += 1
            }
        }
    }

    /// Takes a sequence out of the decode batch.
    private mutating func leave(_ slot: Int, _ index: Int) {
        decodeContext -= sequences[slot].target + decodeSteps - sequences[slot].joinStep
        decoding.swapAt(index, decoding.count - 1)
        decoding.removeLast()
    }

    private mutating func endChunks(at end: Double, into events: inout [ServerEvent]) {
        for chunk in chunks {
            let slot = chunk.slot
            sequences[slot].computed += chunk.tokens
            if sequences[slot].isCancelled {
                prefilling.removeAll { $0 == slot }
                dropMemory(of: slot)
                recycle(slot)
                continue
            }
            guard sequences[slot].computed >= sequences[slot].target else { continue }
            prefilling.removeAll { $0 == slot }
            endPrefill(slot, at: end, into: &events)
        }
        chunks.removeAll(keepingCapacity: true)
    }

    private mutating func endPrefill(_ slot: Int, at end: Double, into events: inout [ServerEvent]) {
        let id = sequences[slot].job.id
        cachePrompt(of: slot, at: end, into: &events)
        counters.promptTokens += sequences[slot].target
        counters.generationTokens += 1
        sequences[slot].generated += 1
        if !sequences[slot].hasFirstToken {
            sequences[slot].hasFirstToken = true
            sequences[slot].prefilled = end
            events.append(ServerEvent(at: Instant(end), job: id, kind: .firstToken))
        }
        if configuration.reportsTokens {
            events.append(ServerEvent(at: Instant(end), job: id, kind: .token(count: sequences[slot].generated)))
        }
        if sequences[slot].generated >= sequences[slot].job.outputTokens {
            sequences[slot].phase = .held
            finish(slot, at: end, into: &events)
        } else {
            join(slot, at: end, into: &events)
        }
    }

    private mutating func finish(_ slot: Int, at end: Double, into events: inout [ServerEvent]) {
        counters.finished += 1
        let (started, prefilled) = (sequences[slot].started ?? end, sequences[slot].prefilled)
        counters.prefillTime = counters.prefillTime + Seconds(max(prefilled - started, 0))
        counters.decodeTime = counters.decodeTime + Seconds(end - prefilled)
        cacheOutput(of: slot, at: end, into: &events)
        let keepsKV = sequences[slot].job.keepsKV
        events.append(ServerEvent(at: Instant(end), job: sequences[slot].job.id, kind: .finished))
        guard !keepsKV else { return }
        dropMemory(of: slot)
        recycle(slot)
    }

    /// Turns the prompt's full blocks into cached ones, held by this sequence.
    mutating func cachePrompt(of slot: Int, at t: Double, into events: inout [ServerEvent]) {
        let hashes = sequences[slot].job.promptHashes
        let full = min(sequences[slot].job.promptTokens / configuration.blockSize, hashes.count)
        cacheBlocks(of: slot, through: full, at: t, into: &events) { hashes[$0] }
    }

    /// The last token generated was never read back, so it is not in KV.
    private mutating func cacheOutput(of slot: Int, at t: Double, into events: inout [ServerEvent]) {
        let job = sequences[slot].job
        guard !job.outputHashes.isEmpty else { return }
        let inKV = job.promptTokens + job.outputTokens - 1
        let full = min(inKV / configuration.blockSize, job.promptHashes.count + job.outputHashes.count)
        cacheBlocks(of: slot, through: full, at: t, into: &events) { index in
            index < job.promptHashes.count ? job.promptHashes[index] : job.outputHashes[index - job.promptHashes.count]
        }
    }

    private mutating func cacheBlocks(
        of slot: Int,
        through full: Int,
        at t: Double,
        into events: inout [ServerEvent],
        hash: (Int) -> UInt64
    ) {
        var stored: Range<Int>?
        for index in sequences[slot].blocks.count..<max(full, sequences[slot].blocks.count) {
            sequences[slot].privateTokens -= configuration.blockSize
            let name = hash(index)
            if let block = cache.find(name) {
                // Another sequence was faster: share its block. The memory moves unless that one holds it already.
                if cache.isReferenced(block) { usedTokens -= configuration.blockSize }
                cache.retain(block)
                sequences[slot].blocks.append(block)
                continue
            }
            sequences[slot].blocks.append(cache.insert(name))
            if let open = stored, open.upperBound == index {
                stored = open.lowerBound..<index + 1
            } else {
                report(stored, slot, t, &events)
                stored = index..<index + 1
            }
        }
        report(stored, slot, t, &events)
    }

    private func report(_ stored: Range<Int>?, _ slot: Int, _ t: Double, _ events: inout [ServerEvent]) {
        guard let stored, configuration.reportsBlocks else { return }
        events.append(ServerEvent(at: Instant(t), job: sequences[slot].job.id, kind: .blocksStored(stored)))
    }
}
