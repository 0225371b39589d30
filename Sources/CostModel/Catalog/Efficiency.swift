// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What an accelerator reaches of its data sheet, and what each layer costs beside it. The roofline uses it.
///
/// Fitted over all configurations of an accelerator by `scripts/fits-to-profiles`, or the default for the others.
package struct Efficiency: Sendable, Hashable, Codable {
    /// Shares of dense operations per second in matrix products, by weight dtype. int4 weights compute in bfloat16.
    package struct Shares: Sendable, Hashable, Codable {
        package var bfloat16: Double
        package var fp8: Double
        package var fp4: Double

        package init(bfloat16: Double, fp8: Double, fp4: Double) {
            self.bfloat16 = bfloat16
            self.fp8 = fp8
            self.fp4 = fp4
        }

        package func of(_ dtype: WeightDtype) -> Double {
            switch dtype {
            case .bfloat16, .int4: bfloat16
            case .fp8: fp8
            case .fp4: fp4
            }
        }
    }

    /// Bytes per second of a large all-reduce, by the number of ranks.
    package struct AllReduceBandwidth: Sendable, Hashable, Codable {
        package var two: Double
        package var four: Double
        package var eight: Double

        package init(two: Double, four: Double, eight: Double) {
            self.two = two
            self.four = four
            self.eight = eight
        }

        package func of(ranks: Int) -> Double { ranks <= 2 ? two : ranks <= 4 ? four : eight }

        func multiplied(by factor: Double) -> AllReduceBandwidth {
            AllReduceBandwidth(two: two * factor, four: four * factor, eight: eight * factor)
        }
    }

    /// Canonical name of the accelerator, or `default`.
    package var accelerator: String
    /// Share of memory bandwidth when weights are streamed, and when KV is read.
    package var weights = 0.85
    package var kv = 0.89
    /// In ordinary layers, and in experts.
    package var dense = Shares(bfloat16: 0.8, fp8: 0.6, fp4: 0.48)
    package var experts = Shares(bfloat16: 0.65, fp8: 0.27, fp4: 0.25)
    /// Share of bfloat16 operations per second in attention.
    package var attention = 0.6
    /// Seconds per layer of launches and small kernels; the further ones that quantised weights and experts need.
    package var perLayer = 44e-6
    package var perQuantizedLayer = 16e-6
    package var perExpertLayer = 16e-6
    /// Seconds of one all-reduce of few bytes between two ranks.
    package var allReduce = 2e-6
    package var allReduceBandwidth = AllReduceBandwidth(two: 170e9, four: 210e9, eight: 250e9)
    /// Seconds per token and layer of routing to experts.
    package var perExpertTokenLayer = 0.027e-6
    /// Seconds per sequence and layer of a decode step beside the matrix products.
    package var perSequenceLayer = 0.013e-6

    package init(accelerator: String) { self.accelerator = accelerator }
}
