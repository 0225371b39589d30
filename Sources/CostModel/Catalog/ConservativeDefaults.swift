// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Glibc

/// What is assumed of what nobody knows.
extension ProfileCatalog {
    /// The default that stands in for an accelerator that no profile describes, under its canonical name.
    package func assumedAccelerator(named name: String) -> Accelerator {
        ProfileCatalog.conservativeAccelerator(named: acceleratorName(name))
    }

    /// Between an L4 and an A100: slow enough that an unknown pod is not flooded, and calibration corrects it upwards.
    static func conservativeAccelerator(named name: String) -> Accelerator {
        Accelerator(
            name: name,
            memoryBytes: 48e9,
            memoryBandwidth: 0.8e12,
            bfloat16Flops: 150e12,
            fp8Flops: 300e12,
            scaleUpBandwidth: 32e9,
            networkBandwidth: defaultNetworkBandwidth,
            pricePerHour: 2,
            isVerified: false,
            source: "default for unknown accelerators"
        )
    }

    /// A dense decoder of as many parameters as the name states; where it states none, of as many as fill the pod.
    ///
    /// Shape as of the open models of 1 to 400 billion parameters: hidden size and layers grow together
    /// (parameters ≈ 12 · layers · hidden², hidden ≈ 110 · layers), eight KV heads of 128.
    static func guessedModel(
        named name: String,
        stated: (total: Double, active: Double?)?,
        on accelerator: Accelerator,
        tensorParallel: Int,
        dtype: WeightDtype
    ) -> ModelFacts {
        let memory = accelerator.memoryBytes * Double(tensorParallel)
        let parameters = stated?.total ?? memory * filledShare / dtype.bytesPerParameter
        let active = stated?.active ?? parameters
        let layers = min(max(cbrt(parameters / (12 * 110 * 110)).rounded(), 12), 160)
        let hidden = min(max((active / (12 * layers)).squareRoot(), 512), 32768)
        let isMixture = active < parameters
        return ModelFacts(
            name: name,
            parameters: parameters,
            activeParameters: active,
            layers: Int(layers),
            hiddenSize: Int(hidden),
            attentionHeads: max(Int(hidden / 128), 8),
            kvHeads: 8,
            headDimension: 128,
            experts: isMixture ? 64 : 0,
            expertsPerToken: isMixture ? 4 : 0,
            isVerified: false,
            source: "guessed"
        )
    }

    /// Weights usually take about half of a pod's memory: less would waste accelerators, more leaves no KV.
    private static let filledShare = 0.5
}
