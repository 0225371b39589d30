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

    private mutating func setCalibration(_ index: Int) {
        let calibration = calibrators[index].calibration
        frame.update(index) { $0.calibration = calibration }
    }

    /// The stream of a pair shows one TTFT. Where both ends of the prompt's service are known from neighbouring first
    /// tokens, its length is their distance: what transfer and first step add is in both ends and cancels. At a pod
    /// that was idle the whole TTFT less the prediction teaches the constant part.
    private mutating func calibratePrefill(_ entry: InFlight, _ terms: CostTerms, _ outcome: Outcome, at p: Int) {
        guard let service = entry.service, !entry.pulls else { return }
        let prompt = entry.request.promptTokens
        var flaws: ObservationFlaws = []
        var cached = entry.cachedTokens
        if let reported = outcome.cachedTokens {
            // The decode pod of a pair may report the KV that it was sent as cached: only less than expected is news.
            let isPair = entry.placement.prefiller != entry.placement.destination
            cached = isPair ? min(max(reported, 0), cached) : min(max(reported, 0), max(prompt - 1, 0))
        } else if cached > 0 {
            flaws.insert(.cacheUnknown)
        }
        let profile = frame.states[p].profile
        let planned = profile.prefill.duration(newTokens: prompt - entry.cachedTokens, cachedTokens: entry.cachedTokens)
        let actual = profile.prefill.duration(newTokens: prompt - cached, cachedTokens: cached)
        // Chunks and the decodes beside them are in the terms, not in the plain prefill.
        let scale = max(entry.calibration.prefillScale, 0.01)
        let extra = max(terms.prefill.rawValue / scale - planned.rawValue, 0)
        let predicted = Seconds(actual.rawValue + extra)
        calibrators[p].observePrefill(
            predicted: predicted,
            observed: Seconds(service.seconds),
            newTokens: prompt - cached,
            flaws: flaws,
            at: now
        )
        phases[p].addPrefill(predicted: predicted.rawValue)
        guard service.wasIdle, let firstToken = entry.firstTokenAt else { return }
        let constant = terms.transfer + terms.admission + terms.firstStep + profile.ttftOverhead
        calibrators[p].observeTTFTOffset(
            predicted: Seconds(predicted.rawValue * calibrators[p].calibration.prefillScale) + constant,
            observed: firstToken - entry.dispatchedAt,
            flaws: flaws
        )
    }

    /// Steps that the token clock counted against tokens that came.
    private mutating func calibrateDecode(_ entry: InFlight, _ outcome: Outcome, since firstToken: Instant, at d: Int) {
        guard let output = outcome.outputTokens, output > 1, let joined = entry.joinedAt else { return }
        ledgers[d].advance(to: now.rawValue)
        let elapsed = (now - firstToken).rawValue
        let ticks = ledgers[d].decodes.clock - joined
        guard elapsed > 0, ticks > 0 else { return }
        let scale = max(frame.states[d].calibration.decodeScale, 0.01)
        let predicted = elapsed / ticks / scale
        calibrators[d].observeDecode(
            predicted: Seconds(predicted),
            observed: Seconds(elapsed / Double(output - 1)),
            outputTokens: output,
            at: now
        )
        phases[d].addDecode(predicted: predicted * Double(output - 1))
    }

    /// What an endpoint's own histograms say of the requests that ended since the last scrape.
    ///
    /// They count others' requests too, so the means are compared, and only where the numbers show that most were ours.
    mutating func phasesObserved(_ id: EndpointID, _ growth: PhaseGrowth) {
        guard let index = index(of: id) else { return }
        let own = phases[index]
        phases[index] = PhaseSums()
        if own.prefills > 0, PhaseSums.agree(own.prefills, growth.prefills) {
            calibrators[index].observePrefills(
                predicted: Seconds(own.prefillSeconds / Double(own.prefills) * Double(growth.prefills)),
                observed: growth.prefillSeconds,
                count: growth.prefills
            )
        }
        if own.decodes > 0, PhaseSums.agree(own.decodes, growth.decodes) {
            calibrators[index].observeDecodes(
                predicted: Seconds(own.decodeSeconds / Double(own.decodes) * Double(growth.decodes)),
                observed: growth.decodeSeconds,
                count: growth.decodes
            )
        }
        setCalibration(index)
    }

    /// Each endpoint's calibrator by endpoint name, in the order of ids: for inspection and for the next start.
    package var calibratorsByName: [(name: String, calibrator: PodCalibrator)] {
        zip(fleet.endpoints, calibrators).map { ($0.endpoint.name, $1) }
    }

    /// Gives back what an earlier process had learned, to endpoints here now and to those that come.
    package mutating func restore(_ saved: [String: PodCalibrator]) {
        for (index, status) in fleet.endpoints.enumerated() {
            guard let calibrator = saved[status.endpoint.name] else { continue }
            calibrators[index] = calibrator
            setCalibration(index)
        }
        restored = saved
    }
}

/// Predicted seconds of the requests that ended at one endpoint, uncorrected, since its histograms were last read.
struct PhaseSums: Sendable {
    private(set) var prefillSeconds = 0.0
    private(set) var prefills = 0
    private(set) var decodeSeconds = 0.0
    private(set) var decodes = 0

    mutating func addPrefill(predicted: Double) {
        prefillSeconds += predicted
        prefills += 1
    }

    mutating func addDecode(predicted: Double) {
        decodeSeconds += predicted
        decodes += 1
    }

    /// Nine of ten the same, or all but one.
    static func agree(_ own: Int, _ seen: Int) -> Bool {
        seen > 0 && abs(Double(own) - Double(seen)) <= max(0.1 * Double(seen), 1)
    }
}
