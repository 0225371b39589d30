// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The rung of the fallback ladder that an estimate stands on. Each rung below the first widens the error band.
package enum ProfileSource: String, Sendable, Hashable, Codable, CaseIterable {
    /// Fitted for this accelerator, model, tensor parallelism and dtype.
    case fitted
    /// Scaled from other measurements by hardware ratios, and shipped as such.
    case derived
    /// Fitted for this very configuration, on another engine than the pod's.
    case otherEngine
    /// Same accelerator and model, another tensor parallelism.
    case otherTensorParallel
    /// Same accelerator and model, another weight dtype.
    case otherDtype
    /// Another model of like size, scaled by parameters and KV bytes.
    case likeModel
    /// From hardware facts alone.
    case roofline
    /// Nothing is known: a conservative default, the same for every such pod.
    case unknown
}
