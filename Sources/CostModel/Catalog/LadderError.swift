// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Relative errors that the ladder states, each half of an 80 % band.
///
/// The figures are quantiles of the leave-one-out test over all shipped fits (`docs/cost-model.md`): 80 % of the cases
/// of a rung lie within, with a reserve for what that test cannot see.
enum LadderError {
    /// What a real engine adds to the error of a fit of composed kernels: on 1,309 steps of two H100 servers and
    /// 256 end-to-end runs the mean error was 4 to 11 %.
    static let serving = 0.10
    /// What the closed-loop formula of docs/cost-model.md adds for a whole server. It is off by 10.6 % in the mean over 338
    /// runs of AIConfigurator's end-to-end measurements (docs/data.md): a band of 0.17, of which `serving` has 0.10.
    static let closedLoop = 0.137
    /// Kernels and scheduler of another engine than the fit's: of the end-to-end runs of TensorRT-LLM and SGLang 80 % lie
    /// within about 0.40 of a prediction by vLLM's fits, `serving` and the fit's own error included.
    static let otherEngine = 0.35
    /// A KV cache in another format than the fit's: its attention kernels are others, and KV is a part of each step.
    static let otherKVDtype = 0.08
    static let otherTensorParallel = 0.12
    static let otherDtype = 0.23
    static let likeModel = 0.25
    static let roofline = 0.35
    /// A mixture of experts that no fit is of: which experts a batch touches differs from model to model. Of 169 runs of
    /// MiniMax-M2.5 79 % lay in the band without this term.
    static let otherMixture = 0.15
    /// Latent attention, of which there is no fit at all: of 77 runs of Kimi-K2.5 33 % lay in the band without this term,
    /// of 294 of DeepSeek-V3 and R1 71 %. Servers take 1.0 to 1.5 times what the roofline says.
    static let latentAttention = 0.50
    /// Nobody has measured what the accelerator reaches of its data sheet.
    static let unmeasuredAccelerator = 0.35
    /// Nor how fast its all-reduces are, where there are any.
    static let unmeasuredLinks = 0.15
    /// Facts that nobody has confirmed.
    static let unverified = 0.30
    /// The model's shape was guessed from the parameters that its name states, or from the size of the pod.
    static let guessedModel = 0.25
    static let unknownModel = 0.60
    static let unknownAccelerator = 0.60
    /// A band wider than this says nothing more, and p90 estimates stay finite and positive.
    static let most = 0.95

    /// The 80 % band of an error known by its mean: for a normal error mean|x| = 0.80 σ and the 80 % quantile of |x|
    /// is 1.28 σ.
    static func band(ofMean mean: Double) -> Double { max(mean, 0) * 1.6 }
}
