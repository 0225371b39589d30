// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Glibc

/// Coefficients from hardware facts and a model's shape alone.
///
/// Each coefficient is the larger limit of the data sheet (bytes ÷ bandwidth or operations ÷ rate), divided by the
/// share of it that measured configurations reach (`Efficiency`), plus launches and all-reduces. The fallback ladder
/// uses it twice: as the last estimate, and as the ratio by which a fit of one configuration is carried to another.
package struct Roofline: Sendable, Hashable {
    package var prefill: PrefillCoefficients
    package var decode: DecodeCoefficients
    package var mixed: StepCoefficients

    package init(
        accelerator: Accelerator,
        efficiency: Efficiency,
        model: ModelFacts,
        tensorParallel: Int,
        dtype: WeightDtype,
        kvDtype: KVDtype
    ) {
        let ranks = Double(max(tensorParallel, 1))
        let layers = Double(max(model.layers, 1))
        let bandwidth = accelerator.memoryBandwidth * ranks
        let streamed = bandwidth * efficiency.weights

        let expertShare = model.isMixtureOfExperts ? Double(model.expertsPerToken) / Double(model.experts) : 0
        let expertBytes = model.expertParameters * dtype.bytesPerParameter
        let sharedParameters = max(model.parameters - model.expertParameters, 0)
        let first = sharedParameters * dtype.bytesPerParameter + expertBytes * expertShare
        // Two all-reduces per layer, after attention and after the MLP; `allReduce` counts the pair of two ranks.
        let reduces = tensorParallel > 1 ? layers * efficiency.allReduce * (1 + log2(ranks)) : 0
        let perLayer =
            efficiency.perLayer + (dtype == .bfloat16 ? 0 : efficiency.perQuantizedLayer)
            + (model.isMixtureOfExperts ? efficiency.perExpertLayer : 0)
        let base = first / streamed + layers * perLayer + reduces

        // A ring moves each value of the hidden state 2·(r − 1)/r times, at two bytes.
        let reducedBytes = 2 * layers * Double(model.hiddenSize) * 2 * 2 * (ranks - 1) / ranks
        let reducing = reducedBytes / efficiency.allReduceBandwidth.of(ranks: tensorParallel)
        let compute = Roofline.compute(model, dtype, accelerator, efficiency) / ranks
        let routing = model.isMixtureOfExperts ? layers * efficiency.perExpertTokenLayer : 0
        let perToken = compute + reducing + routing
        // Below the knee of a mixture of experts each further token touches experts that no other token needs:
        // E·(1 − (1 − k/E)^N) of them. Nearly all are touched after 2·E/k tokens, the knee.
        let expertKnee = 2 / max(expertShare, 0.002)
        let knee: Double
        let perTokenBelow: Double
        if model.isMixtureOfExperts {
            knee = max(Roofline.leastExpertKnee, expertKnee)
            perTokenBelow = perToken + expertBytes * (1 - expertShare) / streamed / knee
        } else {
            // Where computing takes as long as streaming the weights.
            knee = min(max(first / streamed / max(compute, 1e-12), 32), 1024)
            perTokenBelow = perToken * Roofline.shareBelowKnee
        }

        let attentionFlops = accelerator.bfloat16Flops * efficiency.attention * ranks
        let perPair = Roofline.attentionOperations(model) / attentionFlops
        let kvBytes = model.kvBytesPerToken(dtype: kvDtype) * model.kvCopies(tensorParallel: tensorParallel)
        let perKVToken = kvBytes / (bandwidth * efficiency.kv)
        // Layers with a window read it whole for each sequence, whatever the context.
        let windows = (model.kvWindow.map { $0.tokens * $0.share } ?? 0) * perKVToken
        let perSequence = perToken + layers * efficiency.perSequenceLayer + windows
        let perSequenceBelow =
            model.isMixtureOfExperts
            ? perSequence + expertBytes * (1 - expertShare) / streamed / expertKnee
            : perSequence * Roofline.shareBelowKnee

        prefill = PrefillCoefficients(
            knee: knee,
            base: base,
            perTokenBelowKnee: perTokenBelow,
            perTokenAboveKnee: perToken,
            perPair: perPair,
            perContextToken: perKVToken * Roofline.contextShare
        )
        decode = DecodeCoefficients(
            knee: model.isMixtureOfExperts ? expertKnee : Roofline.denseDecodeKnee,
            base: base,
            perSequenceBelowKnee: perSequenceBelow,
            perSequenceAboveKnee: perSequence,
            perKVToken: perKVToken
        )
        mixed = StepCoefficients(
            knee: knee,
            base: base,
            perTokenBelowKnee: model.isMixtureOfExperts ? perTokenBelow : perToken * Roofline.mixedShareBelowKnee,
            perTokenAboveKnee: perToken,
            perPair: perPair,
            perSequence: layers * efficiency.perSequenceLayer + windows,
            perKVToken: perKVToken
        )
    }

    // Medians over the shipped fits of dense models: slope below the knee over that above, c3 over d2, hB; and the
    // knees of the fitted mixtures begin at 32 tokens.
    private static let shareBelowKnee = 0.55
    private static let mixedShareBelowKnee = 0.64
    private static let contextShare = 0.1
    private static let denseDecodeKnee = 96.0
    private static let leastExpertKnee = 32.0

    /// Seconds per token of matrix products, all on one accelerator. Mixtures with 4-bit experts keep attention in 16
    /// bits.
    private static func compute(
        _ model: ModelFacts,
        _ dtype: WeightDtype,
        _ accelerator: Accelerator,
        _ efficiency: Efficiency
    ) -> Double {
        let inExperts =
            model.isMixtureOfExperts
            ? model.expertParameters * Double(model.expertsPerToken) / Double(model.experts) : 0
        let attended: WeightDtype = model.isMixtureOfExperts && dtype == .fp4 ? .bfloat16 : dtype
        let dense = accelerator.flops(dtype: attended) * efficiency.dense.of(attended)
        let experts = accelerator.flops(dtype: dtype) * efficiency.experts.of(dtype)
        return 2 * max(model.activeParameters - inExperts, 0) / dense + 2 * inExperts / experts
    }

    /// Operations of attention per (new token × context token) pair, all layers without a window: two products, of two
    /// operations per value each. MLA multiplies 192 values per head for the scores and 128 for the result.
    private static func attentionOperations(_ model: ModelFacts) -> Double {
        let growing = Double(max(model.layers - model.windowedLayers, 1))
        let values = model.latentDimension > 0 ? 192.0 + 128.0 : 2 * Double(model.headDimension)
        return 2 * Double(model.attentionHeads) * values * growing
    }
}
