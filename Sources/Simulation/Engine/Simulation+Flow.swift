// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// The way of a request through the pods.
extension Simulation {
    /// A request's job on the pod that computes its prompt, and the one on the pod that decodes it.
    private func job(_ request: Int, isDecode: Bool) -> UInt64 { UInt64(request) << 1 | (isDecode ? 1 : 0) }

    /// The request reaches the pod that computes its prompt.
    func submit(_ index: Int) throws(SimulationError) {
        guard requests[index].state == .sent else { return }
        let (request, offered) = (requests[index], workload.requests[index])
        let pod = Int(request.prefiller)
        guard !isDown[pod] else { return try fail(index, .unreachable) }
        let pulled = pullTokens(index)
        let job = ServerJob(
            id: job(index, isDecode: false),
            promptTokens: offered.promptTokens,
            outputTokens: request.isPair ? 1 : offered.outputTokens,
            promptHashes: offered.promptHashes,
            outputHashes: request.isPair ? [] : offered.outputHashes,
            priority: request.priority,
            awaitsKV: pulled > 0,
            keepsKV: request.isPair
        )
        requests[index].holdsPrefill = request.isPair
        with(pod) { $0.submit(job, at: $1, into: &$2) }
        guard pulled > 0 else { return }
        let bytes = endpoints[pod].profile.kvBytes(tokens: Double(pulled))
        requests[index].transfer = Int32(
            network.begin(
                from: Int(request.pullFrom),
                to: pod,
                bytes: bytes,
                request: index,
                purpose: 0,
                at: now,
                due: &due
            )
        )
    }

    /// Tokens of prefix that a peer holds now and the prefill pod does not.
    private func pullTokens(_ index: Int) -> Int {
        let source = Int(requests[index].pullFrom)
        let pod = Int(requests[index].prefiller)
        guard source >= 0, source != pod, !isDown[source], endpoints[pod].canPullKV else { return 0 }
        let offered = workload.requests[index]
        let there = farm.servers[source].cachedTokens(of: offered.promptHashes, promptTokens: offered.promptTokens)
        let here = farm.servers[pod].cachedTokens(of: offered.promptHashes, promptTokens: offered.promptTokens)
        return max(there - here, 0)
    }

    func endTransfer(_ index: Int, version: UInt32) {
        let transfer = network.transfers[index]
        guard transfer.isActive, transfer.version == version else { return }
        network.end(index, at: now, due: &due)
        requests[transfer.request].transfer = -1
        let link = link(transfer.source, transfer.target)
        var delay = link?.connector.fixedCost.rawValue ?? 0
        // Rearranging KV at unequal tensor parallelism passes it once through the receiver's memory.
        if transfer.purpose == 1, link?.repacks == true {
            let (p, d) = (endpoints[transfer.source].profile, endpoints[transfer.target].profile)
            let bytes = p.kvBytes(tokens: Double(workload.requests[transfer.request].promptTokens))
            delay += bytes / max(d.memoryBytesPerSecond, 1)
        }
        queue.push(at: now + delay, .kvArrival, transfer.request, transfer.purpose)
    }

    func kvArrived(_ index: Int, isPrompt: Bool) throws(SimulationError) {
        guard requests[index].state == .sent else { return }
        let offered = workload.requests[index]
        if isPrompt {
            releasePrefill(index)
            with(Int(requests[index].decoder)) { $0.kvArrived(job(index, isDecode: true), at: $1, into: &$2) }
            return
        }
        let source = Int(requests[index].pullFrom)
        let pod = Int(requests[index].prefiller)
        // What the peer has dropped in the meantime did not come.
        let there = farm.servers[source].cachedTokens(of: offered.promptHashes, promptTokens: offered.promptTokens)
        let pulled = offered.promptHashes.prefix(there / workload.blockSize)
        with(pod) { $0.kvArrived(job(index, isDecode: false), pulled: pulled, at: $1, into: &$2) }
    }

    private func releasePrefill(_ index: Int) {
        guard requests[index].holdsPrefill else { return }
        requests[index].holdsPrefill = false
        with(Int(requests[index].prefiller)) { $0.release(job(index, isDecode: false), at: $1, into: &$2) }
    }

    /// A server reported something.
    func take(_ event: ServerEvent, from server: Int) throws(SimulationError) {
        if case .blockRemoved(let hash) = event.kind {
            report([hash], stored: false, pod: server)
            return
        }
        let index = Int(event.job >> 1)
        let isDecode = event.job & 1 == 1
        guard requests[index].state == .sent else { return }
        switch event.kind {
        case .started(let cached):
            guard requests[index].firstToken < 0, !isDecode else { return }
            requests[index].cachedTokens = Int32(truncatingIfNeeded: cached)
            requests[index].prefillStart = now
        case .reserved(let cached): beginTransfer(index, cached: cached)
        case .firstToken:
            settleAtPrefiller(index)
            if isDecode || !requests[index].isPair { try seeFirstToken(index) }
        case .finished:
            if isDecode || !requests[index].isPair { try complete(index) } else { try handOver(index) }
        case .rejected: try fail(index, .failed)
        case .preempted: preemptions += 1
        case .blocksStored(let range):
            let offered = workload.requests[index]
            let all = offered.promptHashes + offered.outputHashes
            report(Array(all[range.clamped(to: all.indices)]), stored: true, pod: server)
        case .token, .blockRemoved: return
        }
    }

    /// The blocks that the picker's index expected are there now, or will never be: once for each time it was told.
    private func settleAtPrefiller(_ index: Int) {
        guard requests[index].isPendingAtPrefiller else { return }
        requests[index].isPendingAtPrefiller = false
        let pod = Int(requests[index].prefiller)
        prefixes[Int(requests[index].picker)].settle(workload.requests[index].promptHashes, pod: pod)
    }

    private func settleAtDecoder(_ index: Int) {
        guard requests[index].isPendingAtDecoder else { return }
        requests[index].isPendingAtDecoder = false
        let pod = Int(requests[index].decoder)
        prefixes[Int(requests[index].picker)].settle(workload.requests[index].promptHashes, pod: pod)
    }

    private func seeFirstToken(_ index: Int) throws(SimulationError) {
        guard requests[index].firstToken < 0 else { return }
        requests[index].firstToken = now
        hash.add(3, index, now)
        settleAtDecoder(index)
        guard requests[index].streams, requests[index].isObserved else { return }
        try tell(Int(requests[index].picker), .firstToken(RequestID(UInt64(index))))
    }

    /// The prompt is computed: the decode pod is asked to take it.
    private func handOver(_ index: Int) throws(SimulationError) {
        let offered = workload.requests[index]
        let pod = Int(requests[index].decoder)
        guard !isDown[pod] else { return try fail(index, .unreachable) }
        // From here on `prefillStart` tells how long the prefill took, which hides a layer-wise transfer.
        requests[index].prefillStart = now - requests[index].prefillStart
        let job = ServerJob(
            id: job(index, isDecode: true),
            promptTokens: offered.promptTokens,
            outputTokens: offered.outputTokens,
            promptHashes: offered.promptHashes,
            outputHashes: offered.outputHashes,
            priority: requests[index].priority,
            source: .remote,
            awaitsKV: true
        )
        queue.push(at: now + options.keepTimeout, .keepTimeout, index)
        with(pod) { $0.submit(job, at: $1, into: &$2) }
    }

    /// The decode pod has room: what it lacks of the prompt's KV is sent. Over a layer-wise connector all layers but the
    /// last went ahead while the prompt was computed, as far as the line allowed.
    private func beginTransfer(_ index: Int, cached: Int) {
        let (p, d) = (Int(requests[index].prefiller), Int(requests[index].decoder))
        let missing = max(workload.requests[index].promptTokens - cached, 0)
        guard missing > 0 else {
            queue.push(at: now, .kvArrival, index, 1)
            return
        }
        let profile = endpoints[p].profile
        let bytes = profile.kvBytes(tokens: Double(missing))
        let layers = link(p, d)?.connector.isLayerwise == true ? Double(max(profile.layers, 1)) : 1
        let hidden = (1 - 1 / layers) * requests[index].prefillStart * network.fullRate(p, d)
        requests[index].transfer = Int32(
            network.begin(
                from: p,
                to: d,
                bytes: max(bytes - hidden, bytes / layers),
                request: index,
                purpose: 1,
                at: now,
                due: &due
            )
        )
    }

    private func complete(_ index: Int) throws(SimulationError) {
        let offered = workload.requests[index]
        requests[index].state = .done
        requests[index].finished = now
        if !options.serviceLevel.isMet(requests[index], offered) { missed.add(index) }
        hash.add(4, index, now)
        let picker = Int(requests[index].picker)
        // Usage stands in the body.
        let isSeen = requests[index].isObserved
        if isSeen { lengths[picker].observe(promptTokens: offered.promptTokens, outputTokens: offered.outputTokens) }
        resolved()
        let outcome = Outcome(
            kind: .completed,
            status: 200,
            promptTokens: isSeen ? offered.promptTokens : nil,
            cachedTokens: isSeen ? Int(requests[index].cachedTokens) : nil,
            outputTokens: isSeen ? offered.outputTokens : nil
        )
        try tell(picker, .ended(RequestID(UInt64(index)), outcome))
    }

    /// A request that was sent will never be answered.
    func fail(_ index: Int, _ kind: Outcome.Kind) throws(SimulationError) {
        guard requests[index].state == .sent || requests[index].state == .waiting else { return }
        let wasSent = requests[index].state == .sent
        requests[index].state = .failed
        missed.add(index)
        hash.add(5, index, now)
        resolved()
        guard wasSent else { return }
        let (p, d) = (Int(requests[index].prefiller), Int(requests[index].decoder))
        if requests[index].transfer >= 0 {
            network.end(Int(requests[index].transfer), at: now, due: &due)
            requests[index].transfer = -1
        }
        with(p) { $0.cancel(job(index, isDecode: false), at: $1, into: &$2) }
        if d != p { with(d) { $0.cancel(job(index, isDecode: true), at: $1, into: &$2) } }
        settleAtPrefiller(index)
        settleAtDecoder(index)
        try tell(Int(requests[index].picker), .ended(RequestID(UInt64(index)), Outcome(kind: kind, status: 503)))
    }
}
