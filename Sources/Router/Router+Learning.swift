// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// What answers teach: lengths, and how each pod differs from its profile.
extension Router {
    mutating func learn(_ entry: InFlight, _ outcome: Outcome) {
        guard outcome.kind == .completed, entry.request.isInference else { return }
        let request = entry.request
        let prompt = outcome.promptTokens ?? request.promptTokens
        if let output = outcome.outputTokens {
            outputLengths.learn(model: request.model, promptTokens: prompt, outputTokens: output)
        }
        if let prompt = outcome.promptTokens {
            promptLengths.learn(model: request.model, promptBytes: request.promptBytes, promptTokens: prompt)
        }
        calibrate(entry, outcome)
    }

    private mutating func calibrate(_ entry: InFlight, _ outcome: Outcome) {
        guard let terms = entry.terms, let firstToken = entry.firstTokenAt else { return }
        if let p = index(of: entry.placement.prefiller) {
            calibratePrefill(entry, terms, outcome, at: p)
            setCalibration(p)
        }
        if let d = index(of: entry.placement.destination) {
            calibrateDecode(entry, outcome, since: firstToken, at: d)
            setCalibration(d)
        }
    }

    /// Gives a pod's state what is known of it: the profile with the shared factors in it, its own scales on top.
    mutating func setCalibration(_ index: Int) {
        let plain = fleet.endpoints[index].endpoint.profile
        guard let shared = shared[index] else {
            let calibration = calibrators[index].calibration
            return frame.update(index) { $0.calibration = calibration }
        }
        let (profile, calibration) = shared.apply(calibrators[index], to: plain)
        frame.update(index) {
            $0.profile = profile
            $0.calibration = calibration
        }
    }

    /// Tells some of the pods what their configurations have learned.
    mutating func takeDueCalibrations() {
        for _ in 0..<DueCalibrations.atOnce {
            guard let pod = dueCalibrations.take() else { return }
            setCalibration(pod)
        }
    }

    mutating func setCalibrations() {
        dueCalibrations = DueCalibrations(pods: fleet.endpoints.count)
        for index in fleet.endpoints.indices { setCalibration(index) }
    }

    /// The stream of a pair shows one TTFT. Where both ends of the prompt's service are known from neighbouring first
    /// tokens, its length is their distance: what transfer and first step add is in both ends and cancels. At a pod
    /// that was idle the whole TTFT less the prediction teaches the constant part.
    private mutating func calibratePrefill(_ entry: InFlight, _ terms: CostTerms, _ outcome: Outcome, at p: Int) {
        guard let service = entry.service, !entry.pulls else { return }
        let prompt = entry.request.promptTokens
        var flaws: ObservationFlaws = preempted(entry, at: p) ? .preempted : []
        var cached = entry.cachedTokens
        if let reported = outcome.cachedTokens {
            // The decode pod of a pair may report the KV that it was sent as cached: only less than expected is news.
            cached = entry.placement.isPair ? min(max(reported, 0), cached) : min(max(reported, 0), max(prompt - 1, 0))
        } else if cached > 0 {
            flaws.insert(.cacheUnknown)
        }
        let profile = fleet.endpoints[p].endpoint.profile
        let work = prefillWork(entry, cached: cached, at: p)
        let before = calibrators[p].prefillScales
        calibrators[p].observePrefill(
            predicted: Seconds(work.predicted),
            factored: Seconds(work.factored),
            usesFactors: shared[p]?.prefillFactors != nil,
            observed: Seconds(service.seconds),
            newTokens: prompt - cached,
            flaws: flaws,
            at: now
        )
        if !entry.placement.isPair { phases[p].prefills.add(work) }
        if flaws.isEmpty, prompt - cached >= PodCalibrator.leastPrefillTokens {
            teachPrefill(work, observed: service.seconds, before, at: p)
        }
        guard service.wasIdle, !entry.loadsAdapter, let firstToken = entry.firstTokenAt else { return }
        let state = frame.states[p]
        let constant = terms.transfer + terms.admission + terms.firstStep + profile.ttftOverhead
        let now = state.profile.prefill.duration(newTokens: prompt - cached, cachedTokens: cached).rawValue
        let predicted = state.calibration.prefillScale * (now + entry.prefillExtra) - entry.transferExtra
        let observed = firstToken - entry.dispatchedAt
        calibrators[p].observeTTFTOffset(
            predicted: Seconds(predicted) + constant,
            observed: observed,
            flaws: flaws
        )
        if flaws.isEmpty, terms.transfer > .zero {
            teachTransfer(entry, residual: (observed - constant).rawValue - predicted, from: p)
        }
    }

    /// The prompt of `entry`, as its prefiller's profile sees it.
    private func prefillWork(_ entry: InFlight, cached: Int, at p: Int) -> ObservedWork {
        let terms = fleet.endpoints[p].endpoint.profile.prefill
            .terms(newTokens: Double(entry.request.promptTokens - cached), cachedTokens: Double(cached))
        return ObservedWork(terms: terms, extra: entry.prefillExtra, factors: shared[p]?.prefill.factors)
    }

    /// Engines count a prompt in their histograms when their request ends. That of a pair's prefill pod ends with the
    /// prompt; any other's with its answer, long after, when quite other prompts were computed.
    mutating func countPairPrefill(_ entry: InFlight, at p: Int) {
        guard entry.placement.isPair, entry.service != nil, !entry.pulls else { return }
        phases[p].prefills.add(prefillWork(entry, cached: entry.cachedTokens, at: p))
    }

    /// `before`: the pod's own scales when it did not know this yet, so that factors and scale are both judged by what
    /// they would have predicted.
    private mutating func teachPrefill(
        _ work: ObservedWork,
        observed: Double,
        _ before: PodCalibrator.Scales,
        at p: Int
    ) {
        guard work.isAlone else { return }
        dueCalibrations.add(
            shared.teach(p) {
                $0.observePrefill(
                    terms: work.terms,
                    observed: Seconds(observed),
                    scale: before.plain,
                    residual: before.onFactors
                )
            }
        )
        takeDueCalibrations()
    }

    /// True where the endpoint preempted requests, perhaps this one, since it was sent.
    private func preempted(_ entry: InFlight, at index: Int) -> Bool {
        ledgers[index].preemptedAt.map { $0 >= entry.dispatchedAt.rawValue } ?? false
    }

    /// `residual`: seconds of TTFT beyond all that is predicted without what was learned of transfers.
    private mutating func teachTransfer(_ entry: InFlight, residual: Double, from p: Int) {
        guard let d = index(of: entry.placement.destination) else { return }
        let (prefill, decode) = (fleet.endpoints[p].endpoint, fleet.endpoints[d].endpoint)
        let fixedCost = fixedCost(from: p, to: d)
        let learned = transfers.observe(
            TransferCalibrator.name(prefill: prefill.name, decode: decode.name),
            residual: residual - calibrators[p].calibration.ttftOffset.rawValue,
            fixedCost: fixedCost
        )
        if let learned { frame.transferCosts[prefill.id, decode.id] = learned }
    }

    /// Seconds that any transfer between two pods takes, before what was learned.
    private func fixedCost(from p: Int, to d: Int) -> Double {
        let (sender, receiver) = (frame.states[p], frame.states[d])
        let link = frame.links.link(sender.kvClass, at: sender.place, receiver.kvClass, at: receiver.place)
        return link.fixedCost.rawValue
    }

    /// Gives a new frame what was learned of its pairs.
    mutating func setTransferCosts() {
        var byName: [String: Int] = [:]
        for (index, status) in fleet.endpoints.enumerated() { byName[status.endpoint.name] = index }
        for name in transfers.state.keys.sorted() {
            let ends = name.split(separator: ">", maxSplits: 1).map(String.init)
            guard ends.count == 2, let p = byName[ends[0]], let d = byName[ends[1]] else { continue }
            let fixedCost = fixedCost(from: p, to: d)
            if let learned = transfers.extra(name, fixedCost: fixedCost) {
                frame.transferCosts[frame.states[p].id, frame.states[d].id] = learned
            }
        }
    }

    /// Steps that the token clock counted against tokens that came.
    private mutating func calibrateDecode(_ entry: InFlight, _ outcome: Outcome, since firstToken: Instant, at d: Int) {
        guard let output = outcome.outputTokens, output > 1, let joined = entry.joinedAt else { return }
        ledgers[d].advance(to: now.rawValue)
        let decodes = ledgers[d].decodes
        let elapsed = (now - firstToken).rawValue
        let ticks = decodes.clock - joined
        guard elapsed > 0, ticks > 0 else { return }
        let state = frame.states[d]
        let batch = (decodes.batchSum - entry.joinedBatchSum) / ticks
        let kvTokens = (decodes.tokenSum - entry.joinedTokenSum) / ticks
        // Prompts that the pod computed meanwhile are in the clock, not in the plain step.
        let step = elapsed / ticks / max(state.calibration.decodeScale, 0.01)
        let extra = max(step - state.profile.decode.step(batch: batch, kvTokens: kvTokens).rawValue, 0)
        let alone = fleet.endpoints[d].endpoint.profile.decode.terms(batch: batch, kvTokens: kvTokens)
        let work = ObservedWork(terms: alone, extra: extra, factors: shared[d]?.decode.factors)
        let observed = elapsed / Double(output - 1)
        let flaws: ObservationFlaws = preempted(entry, at: d) ? .preempted : []
        let before = calibrators[d].decodeScales
        calibrators[d].observeDecode(
            predicted: Seconds(work.predicted),
            factored: Seconds(work.factored),
            usesFactors: shared[d]?.decodeFactors != nil,
            observed: Seconds(observed),
            outputTokens: output,
            flaws: flaws,
            at: now
        )
        phases[d].decodes.add(work, times: Double(output - 1))
        if flaws.isEmpty, output >= PodCalibrator.leastOutputTokens {
            teachDecode(work, observed: observed, before, at: d)
        }
    }

    private mutating func teachDecode(
        _ work: ObservedWork,
        observed: Double,
        _ before: PodCalibrator.Scales,
        at d: Int
    ) {
        guard work.isAlone else { return }
        dueCalibrations.add(
            shared.teach(d) {
                $0.observeDecode(
                    terms: work.terms,
                    observed: Seconds(observed),
                    scale: before.plain,
                    residual: before.onFactors
                )
            }
        )
        takeDueCalibrations()
    }

    /// What an endpoint's own histograms say of the requests that ended since the last scrape.
    ///
    /// They count others' requests too, so the means are compared, and only where the numbers show that most were ours.
    mutating func phasesObserved(_ id: EndpointID, _ growth: PhaseGrowth) {
        guard let index = index(of: id) else { return }
        let own = phases[index]
        phases[index] = PhaseSums()
        guard !growth.hadPreemptions else { return }
        let (prefillsBefore, decodesBefore) = (calibrators[index].prefillScales, calibrators[index].decodeScales)
        if own.prefills.agrees(with: growth.prefills) {
            let work = own.prefills.mean
            calibrators[index].observePrefills(
                predicted: Seconds(work.predicted * Double(growth.prefills)),
                factored: Seconds(work.factored * Double(growth.prefills)),
                observed: growth.prefillSeconds,
                count: growth.prefills
            )
            teachPrefill(
                work,
                observed: growth.prefillSeconds.rawValue / Double(growth.prefills),
                prefillsBefore,
                at: index
            )
        }
        if own.decodes.agrees(with: growth.decodes) {
            let work = own.decodes.mean
            calibrators[index].observeDecodes(
                predicted: Seconds(work.predicted * Double(growth.decodes)),
                factored: Seconds(work.factored * Double(growth.decodes)),
                observed: growth.decodeSeconds,
                count: growth.decodes
            )
            teachDecode(
                work,
                observed: growth.decodeSeconds.rawValue / Double(growth.decodes),
                decodesBefore,
                at: index
            )
        }
        setCalibration(index)
    }

    /// Each endpoint's calibrator by endpoint name, in the order of ids: for inspection and for the next start.
    package var calibratorsByName: [(name: String, calibrator: PodCalibrator)] {
        zip(fleet.endpoints, calibrators).map { ($0.endpoint.name, $1) }
    }

    /// All that was learned, of endpoints here now and of those that have not come back yet.
    package var calibrationState: CalibrationState {
        CalibrationState(
            pods: restored.calibrators(at: now)
                .merging(calibratorsByName.map { ($0.name, $0.calibrator) }) { _, current in current },
            shared: shared.state,
            transferCosts: transfers.state
        )
    }

    /// Gives back what an earlier process had learned, to endpoints here now and to those that come.
    package mutating func restore(_ saved: CalibrationState) {
        restored = RestoredCalibrators(saved.pods, at: now)
        for (index, status) in fleet.endpoints.enumerated() {
            if let calibrator = restored.take(status.endpoint) { calibrators[index] = calibrator }
        }
        shared.restore(saved.shared)
        transfers.restore(saved.transferCosts)
        setCalibrations()
        setTransferCosts()
    }
}
