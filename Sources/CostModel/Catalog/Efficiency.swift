// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What an accelerator reaches of its data sheet, and what each layer costs beside it. The roofline uses it.
///
/// Fitted over all configurations of an accelerator by `scripts/fits-to-profiles`, or the default for the others.
package struct Efficiency: Sendable, Hashable, Codable {
    /// Canonical name of the accelerator.
    package var accelerator: String
    /// Share of memory bandwidth when weights are streamed, and when KV is read.
    package var weights: Double
    package var kv: Double
    /// Share of dense operations per second in matrix products, by weight dtype, and in attention (bfloat16).
    package var bfloat16: Double
    package var fp8: Double
    package var fp4: Double
    package var attention: Double
    /// Seconds per layer of launches and small kernels.
    package var perLayer: Double
    /// Seconds of one all-reduce of few bytes, per doubling of the ranks, and bytes per second of a large one.
    package var allReduce: Double
    package var allReduceBandwidth: Double
    /// Seconds per sequence and layer of a decode step beside the matrix products.
    package var perSequenceLayer: Double

    package init(
        accelerator: String,
        weights: Double = 0.75,
        kv: Double = 0.85,
        bfloat16: Double = 0.7,
        fp8: Double = 0.5,
        fp4: Double = 0.35,
        attention: Double = 0.4,
        perLayer: Double = 10e-6,
        allReduce: Double = 10e-6,
        allReduceBandwidth: Double = 200e9,
        perSequenceLayer: Double = 0.3e-6
    ) {
        self.accelerator = accelerator
        self.weights = weights
        self.kv = kv
        self.bfloat16 = bfloat16
        self.fp8 = fp8
        self.fp4 = fp4
        self.attention = attention
        self.perLayer = perLayer
        self.allReduce = allReduce
        self.allReduceBandwidth = allReduceBandwidth
        self.perSequenceLayer = perSequenceLayer
    }

    package func compute(dtype: WeightDtype) -> Double {
        switch dtype {
        case .bfloat16, .int4: bfloat16
        case .fp8: fp8
        case .fp4: fp4
        }
    }
}
