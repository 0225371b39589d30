// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

extension PodProfile {
    /// The profile of a pod that takes `factor` times as long in all it computes.
    package func slowed(by factor: Double) -> PodProfile {
        var copy = self
        copy.prefill.base *= factor
        copy.prefill.perTokenBelowKnee *= factor
        copy.prefill.perTokenAboveKnee *= factor
        copy.prefill.perPair *= factor
        copy.prefill.perContextToken *= factor
        copy.decode.base *= factor
        copy.decode.perSequenceBelowKnee *= factor
        copy.decode.perSequenceAboveKnee *= factor
        copy.decode.perKVToken *= factor
        copy.mixed.base *= factor
        copy.mixed.perTokenBelowKnee *= factor
        copy.mixed.perTokenAboveKnee *= factor
        copy.mixed.perPair *= factor
        copy.mixed.perSequence *= factor
        copy.mixed.perKVToken *= factor
        return copy
    }
}
