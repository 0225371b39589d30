// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// What a second of waiting and a missed service level are worth. All else in the decision is seconds and dollars that
/// were measured, so these two are the only dials.
package struct Dials: Sendable, Hashable, Codable {
    /// Dollars for one second that a request waits.
    package var valueOfTime: Double
    /// Dollars lost with each request whose service level is missed.
    package var sloMissPrice: Dollars

    package init(valueOfTime: Double, sloMissPrice: Dollars) {
        self.valueOfTime = valueOfTime
        self.sloMissPrice = sloMissPrice
    }
}

/// Named settings of the dials.
///
/// A 70B-class request keeps about one cent of accelerators busy (4 to 10 dollars per thousand in the simulator).
/// `latency` values a second at some thirty times that, so that money only parts what time leaves equal; `cost` values it
/// at a tenth, where busy dollars had halved in the simulator; `balanced` lies between.
package enum Mode: String, Sendable, Hashable, Codable, CaseIterable {
    case latency, balanced, cost

    package var dials: Dials {
        switch self {
        case .latency: Dials(valueOfTime: 0.3, sloMissPrice: Dollars(0.6))
        case .balanced: Dials(valueOfTime: 0.01, sloMissPrice: Dollars(0.04))
        case .cost: Dials(valueOfTime: 0.001, sloMissPrice: Dollars(0.02))
        }
    }
}

/// The dials of requests from a priority upwards.
package struct PriorityClass: Sendable, Hashable, Codable {
    /// The class holds for requests of this priority and above, up to the next class.
    package var minimumPriority: Int
    package var dials: Dials

    package init(minimumPriority: Int, dials: Dials) {
        self.minimumPriority = minimumPriority
        self.dials = dials
    }
}

/// Numbers that the cost needs beside profiles and dials. Each has its reason; none weighs one term against another but
/// `decodeWeight`, which says how much of a decoding second a reader feels.
package struct CostSettings: Sendable, Hashable, Codable {
    /// Seconds of silence that one second of streaming is worth. Text that streams faster than it is read costs its
    /// reader little; 0.15 as in docs/results/simulation.md. Answers that do not stream count in full.
    package var decodeWeight: Double
    /// How many later arrivals are counted as waiting behind a prompt, as a multiple of those expected while it waits
    /// and runs. 1 is the plain expectation; 0 where a central queue holds the later ones.
    package var externality: Double
    /// Costs closer than this share are told apart by the draw: below the model's own error, so that equal pods share
    /// work and several pickers do not herd.
    package var tieBand: Double
    /// Tokens of one prefill chunk beside running decodes (vLLM's and SGLang's default budgets).
    package var prefillChunk: Double
    /// A decode pod takes a prompt itself only while its step, stretched by prefills, stays below this share of the
    /// TPOT bound. In the simulator 0.85 to 1.0 are equally good.
    package var tpotGuard: Double
    /// Seconds over which the share of local prefill is taken.
    package var guardWindow: Double
    /// Tokens of cached prefix that are hit, as a share of prompt tokens seen: what an evicted token's return is worth.
    package var reuse: Double

    package init(
        decodeWeight: Double = 0.15,
        externality: Double = 1,
        tieBand: Double = 0.02,
        prefillChunk: Double = 2048,
        tpotGuard: Double = 0.9,
        guardWindow: Double = 5,
        reuse: Double = 0
    ) {
        self.decodeWeight = decodeWeight
        self.externality = externality
        self.tieBand = tieBand
        self.prefillChunk = prefillChunk
        self.tpotGuard = tpotGuard
        self.guardWindow = guardWindow
        self.reuse = reuse
    }
}
