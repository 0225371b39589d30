// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One known step time of one configuration, against which profiles are judged.
package struct StepTime: Sendable, Hashable {
    package enum Phase: String, Sendable, Hashable, CaseIterable { case prefill, decode, mixed }

    package var phase: Phase
    package var newTokens: Double
    package var cachedTokens: Double
    package var batch: Double
    package var kvTokens: Double
    package var duration: Seconds

    package init(
        phase: Phase,
        newTokens: Double,
        cachedTokens: Double,
        batch: Double,
        kvTokens: Double,
        duration: Seconds
    ) {
        self.phase = phase
        self.newTokens = newTokens
        self.cachedTokens = cachedTokens
        self.batch = batch
        self.kvTokens = kvTokens
        self.duration = duration
    }

    package func estimate(_ profile: PodProfile) -> PhaseEstimate {
        switch phase {
        case .prefill:
            profile.prefillEstimate(newTokens: Int(tokens: newTokens), cachedTokens: Int(tokens: cachedTokens))
        case .decode: profile.decodeEstimate(batch: batch, kvTokens: kvTokens)
        case .mixed:
            profile.stepEstimate(
                newTokens: newTokens,
                cachedTokens: cachedTokens,
                batch: batch,
                kvTokens: kvTokens
            )
        }
    }
}
