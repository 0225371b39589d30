// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// One request on a prefill and a decode pod: every part of its time, and its dollars, each with an 80 % band.
///
/// Bands of parts add up: pods of one kind err together.
struct RequestEstimate {
    struct Load {
        /// Sequences that the decode pod runs already, and the KV tokens that they hold.
        var batch: Double
        var kvTokens: Double
        /// Mean and standard deviation of the tokens that a request generates.
        var meanOutput: Double
        var outputDeviation: Double
        /// Seconds of work ahead at the prefill pod.
        var queued: Seconds
        /// Requests that wait there, and their tokens.
        var waiting: Int
        var waitingTokens: Double
        /// Requests per second that other pickers send there.
        var unseenRate: Double
    }

    private(set) var queue: Seconds
    private(set) var prefill: PhaseEstimate
    private(set) var transfer: TransferEstimate
    private(set) var overhead: Seconds
    private(set) var admission: Seconds
    private(set) var step: PhaseEstimate
    private(set) var overflowProbability: Double
    private(set) var recompute: Seconds
    private(set) var decodes: Double
    private(set) var dollars: (mean: Dollars, low: Dollars, high: Dollars)
    private(set) var marginal: (mean: Dollars, low: Dollars, high: Dollars)

    init(
        on pods: PodPair,
        transfer moving: KVTransfer?,
        input: Int,
        cached: Int,
        cachedAtDecode: Int,
        output: Int,
        _ load: Load
    ) {
        let (p, d) = (pods.sender.profile, pods.receiver.profile)
        let prefill = p.prefillEstimate(newTokens: input - cached, cachedTokens: cached)
        self.prefill = prefill
        transfer =
            moving.map {
                $0.estimate(tokens: Double(input - cachedAtDecode), prefill: prefill, error: pods.transferError)
            } ?? .none
        overhead = p.ttftOverhead
        let mean = prefill.mean.rawValue
        queue =
            load.queued + Queueing.backlog(of: p, waiting: load.waiting, tokens: load.waitingTokens)
            // Of service times as this request's own.
            + Queueing.unseenWait(rate: load.unseenRate, mean: prefill.mean, meanSquare: mean * mean)
        let (size, growth) = (Double(input), Double(output) / 2)
        admission = Queueing.admissionWait(
            profile: d,
            kvTokens: load.kvTokens,
            batch: load.batch,
            needed: size,
            meanOutput: load.meanOutput
        )
        step = d.decodeEstimate(batch: load.batch + 1, kvTokens: load.kvTokens + size + growth)
        let overflow = KVOverflow(
            kvTokens: load.kvTokens + size,
            expectedGrowth: load.batch * load.meanOutput / 2 + Double(output),
            variance: (load.batch + 1) * load.outputDeviation * load.outputDeviation,
            capacity: Double(d.kvCapacityTokens)
        )
        // A request that waits for room has it when it starts.
        overflowProbability = admission > .zero ? 0 : overflow.probability
        recompute = admission > .zero ? .zero : overflow.recompute(profile: d, context: input + output / 2)
        decodes = Double(max(output - 1, 0))

        let without = load.batch > 0 ? d.decode.step(batch: load.batch, kvTokens: load.kvTokens) : .zero
        let (ownStep, tokens, sequences) = (step, Double(output), load.batch + 1)
        func share(_ prefill: Seconds, _ step: Seconds) -> Dollars {
            RequestPrice.busyShare(
                prefillPod: p,
                prefill: prefill,
                decodePod: d,
                step: step,
                batch: sequences,
                outputTokens: tokens
            )
        }
        func added(_ prefill: Seconds, _ factor: Double) -> Dollars {
            RequestPrice.marginal(
                prefillPod: p,
                prefill: prefill,
                decodePod: d,
                stepWith: ownStep.mean * factor,
                stepWithout: without * factor,
                outputTokens: tokens
            )
        }
        dollars = (share(prefill.mean, step.mean), share(prefill.low, step.low), share(prefill.high, step.high))
        marginal = (
            added(prefill.mean, 1), added(prefill.low, max(1 - step.error, 0)), added(prefill.high, 1 + step.error)
        )
    }

    private var fixed: Seconds { overhead + queue + admission }
    var ttft: Seconds { fixed + prefill.mean + transfer.mean + step.mean }
    var ttftLow: Seconds { fixed + prefill.low + transfer.low + step.low }
    var ttftHigh: Seconds { fixed + prefill.high + transfer.high + step.high }
    var total: Seconds { ttft + step.mean * decodes + recompute }
    var totalLow: Seconds { ttftLow + step.low * decodes }
    var totalHigh: Seconds { ttftHigh + step.high * decodes + recompute }
}
