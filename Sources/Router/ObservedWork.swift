// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// What was predicted of a phase whose duration was seen: by the profile as it is, and by the shared factors.
struct ObservedWork: Sendable {
    /// The profile's terms, uncorrected.
    var terms: PredictionTerms
    /// Seconds on top: chunks, and other work between.
    var extra: Double
    /// Seconds that the factors make of the terms.
    private var byFactors: Double

    /// Where other work is more than this share, the terms alone do not explain what is seen.
    static let greatestExtra = 0.05

    init(terms: PredictionTerms, extra: Double, factors: PredictionTerms?) {
        self.terms = terms
        self.extra = extra
        byFactors = factors.map { $0.dot(terms) } ?? terms.sum
    }

    init() { self.init(terms: .zero, extra: 0, factors: nil) }

    var predicted: Double { terms.sum + extra }
    var factored: Double { byFactors + extra }
    var isAlone: Bool { extra <= Self.greatestExtra * byFactors }

    mutating func add(_ other: ObservedWork, times: Double) {
        terms.add(other.terms, times: times)
        extra += other.extra * times
        byFactors += other.byFactors * times
    }
}

/// Predictions of the requests that ended at one endpoint since its histograms were last read.
struct PhaseSums: Sendable {
    /// One phase.
    struct Sum: Sendable {
        private var work = ObservedWork()
        private(set) var count = 0

        mutating func add(_ other: ObservedWork, times: Double = 1) {
            work.add(other, times: times)
            count += 1
        }

        /// Of one request.
        var mean: ObservedWork {
            var mean = ObservedWork()
            mean.add(work, times: 1 / Double(max(count, 1)))
            return mean
        }

        /// Nine of ten the same as the endpoint counted, or all but one.
        func agrees(with seen: Int) -> Bool {
            count > 0 && seen > 0 && abs(Double(count) - Double(seen)) <= max(0.1 * Double(seen), 1)
        }
    }

    var prefills = Sum()
    var decodes = Sum()
}
