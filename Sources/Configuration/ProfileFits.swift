// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// The `fits` section: groups of configurations of one accelerator and engine.
///
/// Times stand in milliseconds per thousand tokens and so on, as the header of the shipped files says; in memory all
/// are seconds per unit.
enum ProfileFits {
    static func group(_ value: DocumentValue) -> [FittedConfiguration] {
        value.object { object in
            let accelerator = object.required("accelerator")?.string(maxLength: ProfileFacts.nameLength)
            let engine = object.required("engine")?.string(maxLength: ProfileFacts.nameLength)
            let provenance = object.required("provenance")?.string()
            let derivedFrom = object.optional("derivedFrom")?.string(maxLength: ProfileFacts.nameLength)
            let isEndToEnd = object.bool("endToEnd", default: false)
            let configurations = (object.required("configurations")?.list() ?? []).compactMap {
                $0.object { configuration($0) }
            }
            guard let accelerator, let engine, let provenance else { return [] }
            return configurations.map { entry in
                var fit = entry
                fit.accelerator = accelerator
                fit.engine = engine
                fit.provenance = provenance
                fit.derivedFrom = derivedFrom
                fit.isEndToEnd = isEndToEnd
                return fit
            }
        } ?? []
    }

    private static func configuration(_ object: DocumentObject) -> FittedConfiguration? {
        let model = object.required("model")?.string(maxLength: ProfileFacts.nameLength)
        let tensorParallel = object.required("tp")?.integer(in: 1...1024)
        let dtype = object.required("dtype")?.weightDtype()
        let overhead = object.optional("ttftOverheadMs")?.number(in: 0...60_000)
        let prefill = object.required("prefill")?.object(prefill)
        let decode = object.required("decode")?.object(decode)
        let step = object.required("step")?.object(step)
        guard let model, let tensorParallel, let dtype, let prefill, let decode, let step else { return nil }
        return FittedConfiguration(
            accelerator: "",
            model: model,
            tensorParallel: tensorParallel,
            dtype: dtype,
            engine: "",
            prefill: prefill.0,
            decode: decode.0,
            mixed: step.0,
            prefillError: prefill.1,
            decodeError: decode.1,
            mixedError: step.1,
            ttftOverhead: overhead.map { Seconds(milliseconds: $0) }
        )
    }

    // Milliseconds. A step of more than a minute, or of less than a microsecond, is a wrong unit.
    private static let stepTime = 0.001...60_000.0
    private static let perThousandTokens = 0.0...60_000.0
    private static let perMillion = 0.0...1_000_000.0
    private static let perSequence = 0.0...1000.0
    private static let knees = 0.0...1_000_000.0
    /// A mean error beyond 200 % is no fit.
    private static let errors = 0.0...2.0

    private static func prefill(_ object: DocumentObject) -> (PrefillCoefficients, Double)? {
        let knee = object.required("knee")?.number(in: knees)
        let base = object.required("c0")?.number(in: stepTime)
        let below = object.required("c1lo")?.number(in: perThousandTokens)
        let above = object.required("c1hi")?.number(in: perThousandTokens)
        let pair = object.required("c2")?.number(in: perMillion)
        let context = object.required("c3")?.number(in: perThousandTokens)
        let error = object.required("error")?.number(in: errors)
        guard let knee, let base, let below, let above, let pair, let context, let error else { return nil }
        let coefficients = PrefillCoefficients(
            knee: knee,
            base: base / 1e3,
            perTokenBelowKnee: below / 1e6,
            perTokenAboveKnee: above / 1e6,
            perPair: pair / 1e9,
            perContextToken: context / 1e6
        )
        return (coefficients, error)
    }

    private static func decode(_ object: DocumentObject) -> (DecodeCoefficients, Double)? {
        let knee = object.required("knee")?.number(in: knees)
        let base = object.required("d0")?.number(in: stepTime)
        let below = object.required("d1lo")?.number(in: perSequence)
        let above = object.required("d1hi")?.number(in: perSequence)
        let kv = object.required("d2")?.number(in: perMillion)
        let error = object.required("error")?.number(in: errors)
        guard let knee, let base, let below, let above, let kv, let error else { return nil }
        let coefficients = DecodeCoefficients(
            knee: knee,
            base: base / 1e3,
            perSequenceBelowKnee: below / 1e3,
            perSequenceAboveKnee: above / 1e3,
            perKVToken: kv / 1e9
        )
        return (coefficients, error)
    }

    private static func step(_ object: DocumentObject) -> (StepCoefficients, Double)? {
        let knee = object.required("knee")?.number(in: knees)
        let base = object.required("c0")?.number(in: stepTime)
        let below = object.required("c1lo")?.number(in: perThousandTokens)
        let above = object.required("c1hi")?.number(in: perThousandTokens)
        let pair = object.required("c2")?.number(in: perMillion)
        let sequence = object.required("d1")?.number(in: perSequence)
        let kv = object.required("d2")?.number(in: perMillion)
        let error = object.required("error")?.number(in: errors)
        guard let knee, let base, let below, let above, let pair, let sequence, let kv, let error else { return nil }
        let coefficients = StepCoefficients(
            knee: knee,
            base: base / 1e3,
            perTokenBelowKnee: below / 1e6,
            perTokenAboveKnee: above / 1e6,
            perPair: pair / 1e9,
            perSequence: sequence / 1e3,
            perKVToken: kv / 1e9
        )
        return (coefficients, error)
    }
}
