// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Glibc

/// The rungs themselves: which fit answers, and how it is carried over to what was asked.
extension ProfileCatalog {
    /// What a profile is made for.
    struct Target {
        var accelerator: Accelerator
        var model: ModelFacts
        var tensorParallel: Int
        var dtype: WeightDtype
        var kvDtype: KVDtype
    }

    /// Coefficients with their origin and their error.
    struct Estimate {
        var prefill: PrefillCoefficients
        var decode: DecodeCoefficients
        var mixed: StepCoefficients
        var prefillError: Double
        var decodeError: Double
        var source: ProfileSource
        var origin: String
        /// A fit of this very accelerator, model, parallelism and dtype: its figures need no facts.
        var isExact = false
        /// A fit of the like, carried over by facts.
        var isCarried = false
        /// Measured on a whole server: no correction for the engine applies.
        var isEndToEnd = false
        var ttftOverhead: Seconds?

        /// Measured on this very configuration: doubts about facts do not touch it. Derived fits stand on facts.
        var isMeasured: Bool { isExact && source != .derived }

        /// Errors of independent causes add as squares.
        mutating func widen(by error: Double) {
            prefillError = (prefillError * prefillError + error * error).squareRoot()
            decodeError = (decodeError * decodeError + error * error).squareRoot()
        }

        /// Facts are missing that any estimate but an exact fit stands on.
        mutating func doubt(_ error: Double) {
            if !isExact { widen(by: error) }
        }

        mutating func markUnknown() {
            if !isExact { source = .unknown }
        }
    }

    /// The first rung that holds. Fits of another engine answer only where the asked one has none of this model.
    func estimate(_ target: Target, engine: String?) -> Estimate {
        let here = fits.filter { $0.accelerator == target.accelerator.name }
        let own = engine == nil ? here : here.filter { $0.engine == engine }
        let others = engine == nil ? [] : here.filter { $0.engine != engine }
        if let estimate = ofSameModel(own, target) { return estimate }
        if var estimate = ofSameModel(others, target) {
            estimate.widen(by: LadderError.otherEngine)
            if estimate.isExact { estimate.source = .otherEngine }
            return estimate
        }
        let like = here.compactMap { fit -> (fit: FittedConfiguration, distance: Double)? in
            guard let model = model(named: fit.model),
                model.isMixtureOfExperts == target.model.isMixtureOfExperts,
                (model.latentDimension > 0) == (target.model.latentDimension > 0)
            else { return nil }
            let size =
                abs(ratioDistance(model.activeParameters, target.model.activeParameters))
                + 0.5 * abs(ratioDistance(model.parameters, target.model.parameters))
            let kernels =
                (fit.dtype == target.dtype ? 0.0 : 1) + (engine == nil || fit.engine == engine ? 0 : 1)
            return size <= ProfileCatalog.likeModelReach
                ? (fit, size + 0.5 * distance(fit, target) + kernels) : nil
        }
        if let nearest = like.min(by: { ($0.distance, $0.fit.label) < ($1.distance, $1.fit.label) }) {
            var estimate = carry(nearest.fit, to: target, as: .likeModel)
            if target.model.isMixtureOfExperts { estimate.widen(by: LadderError.otherMixture) }
            if let engine, nearest.fit.engine != engine { estimate.widen(by: LadderError.otherEngine) }
            return estimate
        }
        return fromRoofline(target)
    }

    /// The rungs of one model: its own fit, another parallelism, another dtype.
    private func ofSameModel(_ fits: [FittedConfiguration], _ target: Target) -> Estimate? {
        let sameModel = fits.filter { $0.model == target.model.name }
        let sameDtype = sameModel.filter { $0.dtype == target.dtype }
        if let fit = sameDtype.first(where: { $0.tensorParallel == target.tensorParallel }) {
            return carry(fit, to: target, as: fit.derivedFrom == nil ? .fitted : .derived)
        }
        if let fit = sameDtype.min(by: { distance($0, target) < distance($1, target) }) {
            return carry(fit, to: target, as: .otherTensorParallel)
        }
        if let fit = sameModel.min(by: { distance($0, target) < distance($1, target) }) {
            return carry(fit, to: target, as: .otherDtype)
        }
        return nil
    }

    private func distance(_ fit: FittedConfiguration, _ target: Target) -> Double {
        ratioDistance(Double(fit.tensorParallel), Double(target.tensorParallel))
    }

    private func fromRoofline(_ target: Target) -> Estimate {
        let line = roofline(target)
        var estimate = Estimate(
            prefill: line.prefill,
            decode: line.decode,
            mixed: line.mixed,
            prefillError: LadderError.roofline,
            decodeError: LadderError.roofline,
            source: .roofline,
            origin: "hardware facts"
        )
        if target.model.isMixtureOfExperts { estimate.widen(by: LadderError.otherMixture) }
        if target.model.latentDimension > 0 { estimate.widen(by: LadderError.latentAttention) }
        if !isMeasured(target.accelerator.name) {
            estimate.widen(by: LadderError.unmeasuredAccelerator)
            if target.tensorParallel > 1 { estimate.widen(by: LadderError.unmeasuredLinks) }
        }
        return estimate
    }

    /// How far another model's deviation from its roofline is believed to be the accelerator's and not its own.
    private static let trustInLikeModel = 0.5
    /// Kernels of another dtype are other kernels: part of a deviation is theirs.
    private static let trustInOtherDtype = 0.6

    /// A model is like another up to this distance: active parameters within a factor of about eight.
    private static let likeModelReach = 3.0

    /// |log2(a/b)|, at most 64.
    private func ratioDistance(_ a: Double, _ b: Double) -> Double {
        a > 0 && b > 0 ? min(abs(log2(a / b)), 64) : 64
    }

    func roofline(_ target: Target) -> Roofline {
        Roofline(
            accelerator: target.accelerator,
            efficiency: efficiency(of: target.accelerator),
            model: target.model,
            tensorParallel: target.tensorParallel,
            dtype: target.dtype,
            kvDtype: target.kvDtype
        )
    }

    /// A fit as it is, or carried over to another configuration by the ratio of their rooflines. The fits hold
    /// bfloat16 KV: an fp8 cache is carried over by the same rule.
    private func carry(_ fit: FittedConfiguration, to target: Target, as source: ProfileSource) -> Estimate {
        let origin = fit.derivedFrom.map { "\(fit.label) (derived from \($0))" } ?? fit.label
        var estimate = Estimate(
            prefill: fit.prefill,
            decode: fit.decode,
            mixed: fit.mixed,
            prefillError: LadderError.band(ofMean: fit.prefillError),
            decodeError: LadderError.band(ofMean: fit.decodeError),
            source: source,
            origin: origin
        )
        estimate.isExact = source == .fitted || source == .derived
        estimate.isCarried = !estimate.isExact
        estimate.isEndToEnd = fit.isEndToEnd
        estimate.ttftOverhead = fit.ttftOverhead
        if !fit.isEndToEnd { estimate.widen(by: LadderError.serving) }
        switch source {
        case .otherTensorParallel:
            estimate.widen(by: LadderError.otherTensorParallel)
            if !isMeasured(fit.accelerator) { estimate.widen(by: LadderError.unmeasuredLinks) }
        case .otherDtype: estimate.widen(by: LadderError.otherDtype)
        case .likeModel: estimate.widen(by: LadderError.likeModel)
        default: break
        }
        if target.kvDtype != .bfloat16 { estimate.widen(by: LadderError.otherKVDtype) }
        // Where nobody has described the fit's model, it is the target's: both have the shape that was guessed.
        let model = model(named: fit.model) ?? target.model
        guard estimate.isCarried || target.kvDtype != .bfloat16 else { return estimate }

        let from = Target(
            accelerator: target.accelerator,
            model: model,
            tensorParallel: fit.tensorParallel,
            dtype: fit.dtype,
            kvDtype: .bfloat16
        )
        let (a, b) = (roofline(from), roofline(target))
        let trust =
            switch source {
            case .likeModel: ProfileCatalog.trustInLikeModel
            case .otherDtype: ProfileCatalog.trustInOtherDtype
            default: 1.0
            }
        estimate.prefill = fit.prefill.scaled(from: a.prefill, to: b.prefill, trust: trust)
        estimate.decode = fit.decode.scaled(from: a.decode, to: b.decode, trust: trust)
        estimate.mixed = fit.mixed.scaled(from: a.mixed, to: b.mixed, trust: trust)
        return estimate
    }
}
