// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

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
        let flops = accelerator.flops(dtype: dtype) * efficiency.compute(dtype: dtype) * ranks
        let attentionFlops = accelerator.bfloat16Flops * efficiency.attention * ranks

        let streamed = bandwidth * efficiency.weights
        let expertShare = model.isMixtureOfExperts ? Double(model.expertsPerToken) / Double(model.experts) : 0
        let expertBytes = model.expertParameters * dtype.bytesPerParameter
        let sharedBytes = max(model.parameters - model.expertParameters, 0) * dtype.bytesPerParameter
        // Two all-reduces per layer, after attention and after the MLP.
        let reduces = tensorParallel > 1 ? 2 * layers * efficiency.allReduce * (1 + Roofline.log2(ranks)) / 2 : 0
        let base =
            (sharedBytes + expertBytes * expertShare) / streamed + layers * efficiency.perLayer + reduces

        // A ring moves each value of the hidden state 2·(r − 1)/r times, at two bytes.
        let reducedBytes = 2 * layers * Double(model.hiddenSize) * 2 * 2 * (ranks - 1) / ranks
        let compute = 2 * model.activeParameters / flops
        let perToken = compute + reducedBytes / efficiency.allReduceBandwidth
        // Below the knee of a mixture of experts each further token touches experts that no other token needs:
        // E·(1 − (1 − k/E)^N) of them. Nearly all are touched after 2·E/k tokens, the knee.
        let knee: Double
        let perTokenBelow: Double
        if model.isMixtureOfExperts {
            knee = max(8, 2 / max(expertShare, 0.002))
            let rest = expertBytes * max(1 - expertShare, 0) * 0.86 / streamed
            perTokenBelow = perToken + rest / knee
        } else {
            // Where computing takes as long as streaming the weights.
            knee = min(max(sharedBytes / streamed / max(compute, 1e-12), 32), 1024)
            perTokenBelow = perToken * 0.3
        }

        let perPair = Roofline.attentionOperations(model) / attentionFlops
        let kvBytes = model.kvBytesPerToken(dtype: kvDtype) * model.kvCopies(tensorParallel: tensorParallel)
        let perKVToken = kvBytes / (bandwidth * efficiency.kv)
        let perSequence = compute + layers * efficiency.perSequenceLayer
        let perSequenceBelow =
            model.isMixtureOfExperts
            ? perSequence + (perTokenBelow - perToken) : perSequence * 0.5

        prefill = PrefillCoefficients(
            knee: knee,
            base: base,
            perTokenBelowKnee: perTokenBelow,
            perTokenAboveKnee: perToken,
            perPair: perPair,
            perContextToken: perKVToken * 0.1
        )
        decode = DecodeCoefficients(
            knee: model.isMixtureOfExperts ? knee : 128,
            base: base,
            perSequenceBelowKnee: perSequenceBelow,
            perSequenceAboveKnee: perSequence,
            perKVToken: perKVToken
        )
        mixed = StepCoefficients(
            knee: knee,
            base: base,
            perTokenBelowKnee: perTokenBelow,
            perTokenAboveKnee: perToken,
            perPair: perPair,
            perSequence: layers * efficiency.perSequenceLayer,
            perKVToken: perKVToken
        )
    }

    /// Operations of attention per (new token × context token) pair, all layers without a window: two products, of two
    /// operations per value each. MLA multiplies 192 values per head for the scores and 128 for the result.
    private static func attentionOperations(_ model: ModelFacts) -> Double {
        let growing = Double(max(model.layers - model.windowedLayers, 1))
        let values = model.latentDimension > 0 ? 192.0 + 128.0 : 2 * Double(model.headDimension)
        return 2 * Double(model.attentionHeads) * values * growing
    }

    /// Base-two logarithm of a rank count, without Foundation: 1, 2, 4, 8 … and between them linear.
    private static func log2(_ ranks: Double) -> Double {
        var rest = max(ranks, 1)
        var result = 0.0
        while rest >= 2 {
            rest /= 2
            result += 1
        }
        return result + (rest - 1)
    }
}
