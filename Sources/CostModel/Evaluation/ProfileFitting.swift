// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Fits a profile to what a live server was seen to do.
package struct ProfileFitting: Sendable {
    /// Time to first token of one request at an idle server.
    package struct PrefillSample: Sendable, Hashable {
        package var newTokens: Double
        package var cachedTokens: Double
        package var ttft: Seconds

        package init(newTokens: Double, cachedTokens: Double, ttft: Seconds) {
            self.newTokens = newTokens
            self.cachedTokens = cachedTokens
            self.ttft = ttft
        }
    }

    /// Mean step of a batch while nothing was prefilled.
    package struct DecodeSample: Sendable, Hashable {
        package var batch: Double
        package var kvTokens: Double
        package var step: Seconds

        package init(batch: Double, kvTokens: Double, step: Seconds) {
            self.batch = batch
            self.kvTokens = kvTokens
            self.step = step
        }
    }

    package struct Fit: Sendable, Hashable {
        package var prefill: PrefillCoefficients
        package var decode: DecodeCoefficients
        package var mixed: StepCoefficients
        package var ttftOverhead: Seconds
        /// Leave-one-out mean absolute relative errors. That of prefill includes the overhead.
        package var prefillError: Double
        package var decodeError: Double
    }

    package enum Failure: Error, Sendable, Hashable, CustomStringConvertible {
        case tooFewSamples(prefill: Int, decode: Int)

        package var description: String {
            switch self {
            case .tooFewSamples(let prefill, let decode):
                "\(prefill) prefill and \(decode) decode measurements are too few for a fit: "
                    + "\(ProfileFitting.leastPrefillSamples) and \(ProfileFitting.leastDecodeSamples) are needed"
            }
        }
    }

    package static let leastPrefillSamples = 8
    package static let leastDecodeSamples = 8
    private static let prefillKnees: [Double] = [32, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
    private static let decodeKnees: [Double] = [8, 16, 32, 48, 64, 96, 128, 192, 256]

    package static func fit(prefills: [PrefillSample], decodes: [DecodeSample]) throws(Failure) -> Fit {
        let prefills = prefills.filter { $0.newTokens > 0 && $0.ttft.rawValue > 0 && $0.ttft.rawValue.isFinite }
        let decodes = decodes.filter { $0.batch > 0 && $0.step.rawValue > 0 && $0.step.rawValue.isFinite }
        guard prefills.count >= leastPrefillSamples, decodes.count >= leastDecodeSamples else {
            throw .tooFewSamples(prefill: prefills.count, decode: decodes.count)
        }
        let decode = best(decodeKnees, decodes.map(\.step.rawValue)) { knee in
            decodes.map { [1, min($0.batch, knee), max($0.batch - knee, 0), $0.kvTokens] }
        }
        let prefill = best(prefillKnees, prefills.map(\.ttft.rawValue)) { knee in
            prefills.map { sample in
                let (n, p) = (sample.newTokens, sample.cachedTokens)
                return [1, min(n, knee), max(n - knee, 0), n * p + n * n / 2, n + p]
            }
        }
        let d = decode.fit.coefficients
        let p = prefill.fit.coefficients
        // A pass streams the weights, whatever it computes: the floor of a prefill is that of a decode step, and the
        // rest of the intercept is the way there and back.
        let floor = min(max(d[0], leastBase), max(p[0], leastBase))
        return Fit(
            prefill: PrefillCoefficients(
                knee: prefill.knee,
                base: floor,
                perTokenBelowKnee: p[1],
                perTokenAboveKnee: p[2],
                perPair: p[3],
                perContextToken: p[4]
            ),
            decode: DecodeCoefficients(
                knee: decode.knee,
                base: max(d[0], leastBase),
                perSequenceBelowKnee: d[1],
                perSequenceAboveKnee: d[2],
                perKVToken: d[3]
            ),
            mixed: StepCoefficients(
                knee: prefill.knee,
                base: max(d[0], leastBase),
                perTokenBelowKnee: p[1],
                perTokenAboveKnee: p[2],
                perPair: p[3],
                perSequence: max(d[1] - p[1], 0),
                perKVToken: d[3]
            ),
            ttftOverhead: Seconds(max(p[0] - floor, 0)),
            prefillError: prefill.error,
            decodeError: decode.error
        )
    }

    /// A microsecond: no step takes less, and a base of zero would be refused as a profile.
    private static let leastBase = 1e-6

    /// The knee with the least error, and the leave-one-out error there.
    private static func best(
        _ knees: [Double],
        _ observed: [Double],
        _ rows: (Double) -> [[Double]]
    ) -> (knee: Double, fit: NonnegativeFit, error: Double) {
        var chosen = (knee: knees[0], fit: NonnegativeFit(rows(knees[0]), observed))
        for knee in knees.dropFirst() {
            let fit = NonnegativeFit(rows(knee), observed)
            if fit.error < chosen.fit.error { chosen = (knee, fit) }
        }
        let all = rows(chosen.knee)
        var total = 0.0
        for index in all.indices {
            var others = all
            others.remove(at: index)
            var rest = observed
            rest.remove(at: index)
            total += abs(NonnegativeFit(others, rest).predict(all[index]) / observed[index] - 1)
        }
        return (chosen.knee, chosen.fit, total / Double(all.count))
    }
}
