// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What a request costs in dollars.
package enum RequestPrice {
    /// The request's share of the time that it keeps pods busy: the whole prefill, and one of B parts of each step.
    /// `step` is one of the batch of `batch` sequences, this request's included.
    package static func busyShare(
        prefillPod: PodProfile,
        prefill: Seconds,
        decodePod: PodProfile,
        step: Seconds,
        batch: Double,
        outputTokens: Double
    ) -> Dollars {
        let decoding = max(outputTokens, 0) * step.rawValue / max(batch, 1)
        return Dollars(
            prefillPod.dollarsPerSecond * prefill.rawValue + decodePod.dollarsPerSecond * decoding
        )
    }

    /// What the request adds on pods that run anyway: its prefill, and the growth of each of its steps.
    package static func marginal(
        prefillPod: PodProfile,
        prefill: Seconds,
        decodePod: PodProfile,
        stepWith: Seconds,
        stepWithout: Seconds,
        outputTokens: Double
    ) -> Dollars {
        let growth = max(stepWith.rawValue - stepWithout.rawValue, 0)
        return Dollars(
            prefillPod.dollarsPerSecond * prefill.rawValue
                + decodePod.dollarsPerSecond * growth * max(outputTokens, 0)
        )
    }
}
