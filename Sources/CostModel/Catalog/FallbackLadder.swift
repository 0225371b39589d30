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
            estimate.doubt(stated == nil ? LadderError.unknownModel : LadderError.guessedModel)
            // A fit carried over by a guessed shape, or no figure at all: nothing that deserves a rung's name.
            if stated == nil || estimate.isCarried { estimate.markUnknown() }
        } else if !facts.isVerified, !estimate.isMeasured {
            estimate.widen(by: LadderError.unverified)
        }
        if known.accelerator == nil {
            estimate.doubt(LadderError.unknownAccelerator)
            estimate.markUnknown()
        } else if !accelerator.isVerified, !estimate.isMeasured {
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
            source: estimate.source,
            kvWindow: target.model.kvWindow
        )
    }

    /// 100GbE, the least that is sold with machines of this kind.
    static let defaultNetworkBandwidth = 12.5e9
    /// Median of six end-to-end fits of TTFT against prefill on vLLM (8 to 63 ms).
    static let defaultTTFTOverhead = Seconds(milliseconds: 24)
}
