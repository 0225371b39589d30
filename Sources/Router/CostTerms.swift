// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// One candidate's cost, term by term: seconds first, then the dollars that they and the risks come to.
package struct CostTerms: Sendable, Hashable, Codable {
    /// Waiting behind prompts that the prefiller already has.
    package var queueing: Seconds
    package var prefill: Seconds
    /// Fetching a missing prefix from a third pod.
    package var pull: Seconds
    /// The part of the KV transfer that prefill does not hide.
    package var transfer: Seconds
    /// Tokenising, HTTP, scheduling.
    package var overhead: Seconds
    /// Waiting for KV room on the decode pod.
    package var admission: Seconds
    /// The decode step that gives the first token of a pair.
    package var firstStep: Seconds
    /// Predicted time per output token.
    package var tpot: Seconds
    /// All further tokens.
    package var decode: Seconds
    /// Seconds that prompts behind this one are pushed back, together.
    package var othersPrefill: Seconds
    /// Seconds that sequences decoding beside it lose, together, before weighting.
    package var othersDecode: Seconds
    package var missProbability: Double
    package var overflowProbability: Double

    /// Value of the request's own time.
    package var time: Dollars
    /// Value of the others' time.
    package var others: Dollars
    /// The prefiller's and the decoder's price for the time that they are busy with it.
    package var busyPrefill: Dollars
    package var busyDecode: Dollars
    /// P(missed service level) × price of a miss.
    package var miss: Dollars
    /// P(KV overflow) × cost of computing the sequence again.
    package var overflow: Dollars
    /// Expected value of the cached prefixes that it displaces.
    package var eviction: Dollars
    package var total: Dollars

    /// From dispatch to the first token.
    package var ttft: Seconds {
        queueing + prefill + pull + transfer + overhead + admission + firstStep
    }
    package var busy: Dollars { busyPrefill + busyDecode }
}
