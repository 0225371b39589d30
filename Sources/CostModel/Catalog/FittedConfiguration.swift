// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Coefficients fitted for one (accelerator, model, tensor parallelism, weight dtype, engine), and how good they are.
package struct FittedConfiguration: Sendable, Hashable, Codable {
    /// Canonical names.
    package var accelerator: String
    package var model: String
    package var tensorParallel: Int
    package var dtype: WeightDtype
    package var engine: String
    package var prefill: PrefillCoefficients
    package var decode: DecodeCoefficients
    package var mixed: StepCoefficients
    /// Mean absolute relative errors on points held out of the fit: 0.03 is 3 %.
    package var prefillError: Double
    package var decodeError: Double
    package var mixedError: Double
    /// The configuration that this one was scaled from, nil for a fit of its own measurements.
    package var derivedFrom: String?
    /// Where the measurements come from.
    package var provenance: String
    /// Measured on a whole server, so that no correction for the engine applies.
    package var isEndToEnd: Bool
    /// Fixed part of the time to first token, where it was measured with the fit.
    package var ttftOverhead: Seconds?

    package init(
        accelerator: String,
        model: String,
        tensorParallel: Int,
        dtype: WeightDtype,
        engine: String,
        prefill: PrefillCoefficients,
        decode: DecodeCoefficients,
        mixed: StepCoefficients,
        prefillError: Double,
        decodeError: Double,
        mixedError: Double,
        derivedFrom: String? = nil,
        provenance: String = "",
        isEndToEnd: Bool = false,
        ttftOverhead: Seconds? = nil
    ) {
        self.accelerator = accelerator
        self.model = model
        self.tensorParallel = tensorParallel
        self.dtype = dtype
        self.engine = engine
        self.prefill = prefill
        self.decode = decode
        self.mixed = mixed
        self.prefillError = prefillError
        self.decodeError = decodeError
        self.mixedError = mixedError
        self.derivedFrom = derivedFrom
        self.provenance = provenance
        self.isEndToEnd = isEndToEnd
        self.ttftOverhead = ttftOverhead
    }

    /// `h100-sxm/llama-3.1-70b/tp4/fp8`, for people and logs.
    package var label: String { "\(accelerator)/\(model)/tp\(tensorParallel)/\(dtype.rawValue)" }
}
