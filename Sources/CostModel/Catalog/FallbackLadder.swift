// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The rungs below an exact fit: where a profile comes from when nobody has measured that very configuration.
///
/// Every rung carries a fit (or the hardware's roofline) over by the ratio of two rooflines, coefficient by
/// coefficient, so that what the roofline gets wrong for an accelerator or a model cancels.
extension ProfileCatalog {
    /// The profile of one pod. Never fails.
    package func resolve(_ query: ProfileQuery) -> ProfileResolution {
        let acceleratorName = acceleratorName(query.accelerator)
        let modelName = modelName(query.model)
        let tensorParallel = min(max(query.tensorParallel, 1), ProfileCatalog.mostRanks)
        let known = (accelerator: accelerator(named: acceleratorName), model: model(named: modelName))
        let accelerator = known.accelerator ?? ProfileCatalog.conservativeAccelerator(named: acceleratorName)
        let stated = known.model == nil ? ModelName(query.model).statedParameters : nil
        let dtype = weightDtype(query.dtype, model: query.model)
        let facts =
            known.model
            ?? ProfileCatalog.guessedModel(
                named: modelName,
                stated: stated,
                on: accelerator,
                tensorParallel: tensorParallel,
                dtype: dtype
            )
        let kvDtype = query.kvDtype.flatMap(KVDtype.init(named:)) ?? .bfloat16
        let target = Target(
            accelerator: accelerator,
            model: facts,
            tensorParallel: tensorParallel,
            dtype: dtype,
            kvDtype: kvDtype
        )

        var estimate = estimate(target, engine: query.engine.map(NameTable.key))
        if known.model == nil {
            estimate.widen(by: stated == nil ? LadderError.unknownModel : LadderError.guessedModel)
            if stated == nil { estimate.source = .unknown }
        } else if !facts.isVerified {
            estimate.widen(by: LadderError.unverified)
        }
        if known.accelerator == nil {
            estimate.source = .unknown
            estimate.widen(by: LadderError.unknownAccelerator)
        } else if !accelerator.isVerified {
            estimate.widen(by: LadderError.unverified)
        }
        let correction =
            estimate.isEndToEnd ? nil : correction(accelerator: acceleratorName, engine: query.engine)
        return ProfileResolution(
            profile: profile(estimate, target, correction, query),
            accelerator: acceleratorName,
            model: modelName,
            tensorParallel: tensorParallel,
            dtype: dtype,
            kvDtype: kvDtype,
            origin: estimate.origin,
            isKnownAccelerator: known.accelerator != nil,
            isKnownModel: known.model != nil
        )
    }

    /// The profile of one pod. Never fails. See `resolve(_:)` for what else is known about the answer.
    package func profile(
        accelerator: String,
        model: String,
        tensorParallel: Int,
        dtype: String? = nil,
        engine: String? = nil,
        kvDtype: String? = nil,
        pricePerHour: Double? = nil,
        networkGbps: Double? = nil
    ) -> PodProfile {
        let query = ProfileQuery(
            accelerator: accelerator,
            model: model,
            tensorParallel: tensorParallel,
            dtype: dtype,
            engine: engine,
            kvDtype: kvDtype,
            pricePerHour: pricePerHour,
            networkGbps: networkGbps
        )
        return resolve(query).profile
    }

    /// No pod has more accelerators: a larger figure is an error, and far below what could overflow.
    static let mostRanks = 4096

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
        /// Measured on a whole server: no correction for the engine applies.
        var isEndToEnd = false
        var ttftOverhead: Seconds?

        /// Errors of independent causes add as squares.
        mutating func widen(by error: Double) {
            prefillError = (prefillError * prefillError + error * error).squareRoot()
            decodeError = (decodeError * decodeError + error * error).squareRoot()
        }
    }

    private func estimate(_ target: Target, engine: String?) -> Estimate {
        let onAccelerator = fits.filter { $0.accelerator == target.accelerator.name }
        // Fits of the very engine first: among equals the first one is taken.
        let here =
            onAccelerator.filter { $0.engine == engine } + onAccelerator.filter { $0.engine != engine }
        let sameModel = here.filter { $0.model == target.model.name }
        let sameDtype = sameModel.filter { $0.dtype == target.dtype }
        let ranks = Double(target.tensorParallel)
        func distance(_ fit: FittedConfiguration) -> Double { abs(ratioDistance(Double(fit.tensorParallel), ranks)) }

        if let fit = sameDtype.first(where: { $0.tensorParallel == target.tensorParallel }) {
            return carry(fit, to: target, as: fit.derivedFrom == nil ? .fitted : .derived)
        }
        if let fit = sameDtype.min(by: { distance($0) < distance($1) }) {
            return carry(fit, to: target, as: .otherTensorParallel)
        }
        if let fit = sameModel.min(by: { distance($0) < distance($1) }) {
            return carry(fit, to: target, as: .otherDtype)
        }
        let like = here.compactMap { fit -> (fit: FittedConfiguration, distance: Double)? in
            guard let model = model(named: fit.model),
                model.isMixtureOfExperts == target.model.isMixtureOfExperts,
                (model.latentDimension > 0) == (target.model.latentDimension > 0)
            else { return nil }
            let size =
                abs(ratioDistance(model.activeParameters, target.model.activeParameters))
                + 0.5 * abs(ratioDistance(model.parameters, target.model.parameters))
            let apart = size + 0.5 * distance(fit) + (fit.dtype == target.dtype ? 0 : 1)
            return size <= ProfileCatalog.likeModelReach ? (fit, apart) : nil
        }
        if let nearest = like.min(by: { ($0.distance, $0.fit.label) < ($1.distance, $1.fit.label) }) {
            return carry(nearest.fit, to: target, as: .likeModel)
        }
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
        if !isMeasured(target.accelerator.name) { estimate.widen(by: LadderError.unmeasuredAccelerator) }
        return estimate
    }

    /// How far another model's deviation from its roofline is believed to be the accelerator's and not its own.
    private static let trustInLikeModel = 0.5
    /// Kernels of another dtype are other kernels: part of a deviation is theirs.
    private static let trustInOtherDtype = 0.6

    /// A model is like another up to this distance: active parameters within a factor of about eight.
    private static let likeModelReach = 3.0

    /// |log2(a/b)|, near enough for choosing a neighbour: exact at powers of two.
    private func ratioDistance(_ a: Double, _ b: Double) -> Double {
        guard a > 0, b > 0 else { return 64 }
        var ratio = max(a, b) / min(a, b)
        var result = 0.0
        while ratio >= 2, result < 64 {
            ratio /= 2
            result += 1
        }
        return result + (ratio - 1)
    }

    func roofline(_ target: Target) -> Roofline {
        Roofline(
            accelerator: target.accelerator,
            efficiency: efficiency(of: target.accelerator.name),
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
        estimate.isEndToEnd = fit.isEndToEnd
        estimate.ttftOverhead = fit.ttftOverhead
        if !fit.isEndToEnd { estimate.widen(by: LadderError.serving) }
        switch source {
        case .otherTensorParallel: estimate.widen(by: LadderError.otherTensorParallel)
        case .otherDtype: estimate.widen(by: LadderError.otherDtype)
        case .likeModel: estimate.widen(by: LadderError.likeModel)
        default: break
        }
        let isExact = source == .fitted || source == .derived
        guard !(isExact && target.kvDtype == .bfloat16), let model = model(named: fit.model) else { return estimate }

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

    private func correction(accelerator: String, engine: String?) -> ServingCorrection? {
        guard let engine else { return nil }
        let name = NameTable.key(engine)
        return corrections.first { $0.engine == name && acceleratorName($0.accelerator) == accelerator }
            ?? corrections.first { $0.engine == name && $0.accelerator == "*" }
            ?? corrections.first { $0.engine == "*" }
    }

    private func profile(
        _ estimate: Estimate,
        _ target: Target,
        _ correction: ServingCorrection?,
        _ query: ProfileQuery
    ) -> PodProfile {
        let ranks = Double(target.tensorParallel)
        let line =
            query.networkGbps.map { $0 * 1e9 / 8 } ?? target.accelerator.networkBandwidth
            ?? ProfileCatalog.defaultNetworkBandwidth
        let price = query.pricePerHour ?? target.accelerator.pricePerHour
        let (prefillScale, decodeScale) = (correction?.prefillScale ?? 1, correction?.decodeScale ?? 1)
        return PodProfile(
            prefill: estimate.prefill.multiplied(by: prefillScale),
            decode: estimate.decode.multiplied(by: decodeScale),
            mixed: estimate.mixed.multiplied(by: decodeScale),
            ttftOverhead: estimate.ttftOverhead ?? correction?.ttftOverhead ?? ProfileCatalog.defaultTTFTOverhead,
            prefillError: min(estimate.prefillError, LadderError.most),
            decodeError: min(estimate.decodeError, LadderError.most),
            kvBytesPerToken: target.model.kvBytesPerToken(dtype: target.kvDtype),
            kvCapacityTokens: KVCapacity.tokens(
                accelerator: target.accelerator,
                model: target.model,
                tensorParallel: target.tensorParallel,
                dtype: target.dtype,
                kvDtype: target.kvDtype
            ),
            layers: max(target.model.layers, 1),
            networkBytesPerSecond: max(line, 1) * ranks * connector(named: query.connector).efficiency,
            memoryBytesPerSecond: target.accelerator.memoryBandwidth * ranks,
            dollarsPerSecond: max(price, 0) * ranks / 3600,
            source: estimate.source
        )
    }

    /// 100GbE, the least that is sold with machines of this kind.
    static let defaultNetworkBandwidth = 12.5e9
    /// Median of six end-to-end fits of TTFT against prefill on vLLM (8 to 63 ms).
    static let defaultTTFTOverhead = Seconds(milliseconds: 24)
}
