// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// The sections of a profile file that state facts: accelerators, models, connectors, efficiencies, corrections, prices.
///
/// Ranges reach from a tenth of the smallest to some ten times the largest that is sold today: a figure outside is a
/// wrong unit.
enum ProfileFacts {
    static func accelerator(_ object: DocumentObject) -> Accelerator? {
        let name = object.required("name")?.string(maxLength: nameLength)
        let aliases = strings(object.optional("aliases"))
        let memory = object.required("memoryGB")?.number(in: 1...10_000)
        let bandwidth = object.required("memoryGBps")?.number(in: 10...200_000)
        let bfloat16 = object.required("bf16")?.number(in: 1...200_000)
        let fp8 = object.optional("fp8")?.number(in: 1...400_000)
        let fp4 = object.optional("fp4")?.number(in: 1...800_000)
        let scaleUp = object.optional("scaleUpGBps")?.number(in: 1...50_000)
        let network = object.optional("networkGbps")?.number(in: 1...100_000)
        let watts = object.optional("watts")?.number(in: 1...20_000)
        let price = object.required("usdPerHour")?.number(in: 0...1000)
        let isVerified = object.bool("verified", default: true)
        let source = object.string("source", default: "")
        guard let name, let memory, let bandwidth, let bfloat16, let price else { return nil }
        return Accelerator(
            name: name,
            aliases: aliases,
            memoryBytes: memory * 1e9,
            memoryBandwidth: bandwidth * 1e9,
            bfloat16Flops: bfloat16 * 1e12,
            fp8Flops: fp8.map { $0 * 1e12 },
            fp4Flops: fp4.map { $0 * 1e12 },
            scaleUpBandwidth: scaleUp.map { $0 * 1e9 },
            networkBandwidth: network.map { $0 * 1e9 / 8 },
            watts: watts,
            pricePerHour: price,
            isVerified: isVerified,
            source: source
        )
    }

    static func model(_ object: DocumentObject) -> ModelFacts? {
        let name = object.required("name")?.string(maxLength: nameLength)
        let aliases = strings(object.optional("aliases"))
        let parameters = object.required("parameters")?.number(in: 0.001...20_000)
        let active = object.optional("active")?.number(in: 0.001...20_000)
        let layers = object.required("layers")?.integer(in: 1...1000)
        let hidden = object.required("hidden")?.integer(in: 16...200_000)
        let heads = object.required("heads")?.integer(in: 1...4096)
        let kvHeads = object.required("kvHeads")?.integer(in: 1...4096)
        let headDimension = object.required("headDim")?.integer(in: 8...4096)
        let experts = pair(object.optional("experts"), 0...100_000, "experts per layer, experts per token")
        let windowed = pair(object.optional("windowed"), 0...10_000_000, "layers with a window, tokens of the window")
        let latent = object.integer("latent", in: 0...65536, default: 0)
        let dtype = object.weightDtype("dtype") ?? .bfloat16
        let isNativeOnly = object.bool("nativeOnly", default: false)
        let isVerified = object.bool("verified", default: true)
        let source = object.string("source", default: "")
        guard let name, let parameters, let layers, let hidden, let heads, let kvHeads, let headDimension
        else { return nil }
        check(object, parameters: parameters, active: active, experts: experts)
        if kvHeads > heads { object.reject("kvHeads must not exceed heads") }
        if let windowed {
            if windowed.0 > layers { object.reject("windowed names more layers than there are") }
            if windowed.0 > 0, windowed.1 == 0 { object.reject("windowed needs a window of at least one token") }
        }
        return ModelFacts(
            name: name,
            aliases: aliases,
            parameters: parameters * 1e9,
            activeParameters: (active ?? parameters) * 1e9,
            layers: layers,
            hiddenSize: hidden,
            attentionHeads: heads,
            kvHeads: kvHeads,
            headDimension: headDimension,
            experts: experts?.0 ?? 0,
            expertsPerToken: experts?.1 ?? 0,
            windowedLayers: windowed?.0 ?? 0,
            window: windowed?.1 ?? 0,
            latentDimension: latent,
            nativeDtype: dtype,
            isNativeOnly: isNativeOnly,
            isVerified: isVerified,
            source: source
        )
    }

    /// A mixture of experts states both: experts, and what one token passes through.
    private static func check(
        _ object: DocumentObject,
        parameters: Double,
        active: Double?,
        experts: (all: Int, used: Int)?
    ) {
        if let active, active > parameters { object.reject("active must not exceed parameters") }
        guard let experts else {
            if let active, active < parameters { object.reject("active needs experts: [per layer, per token]") }
            return
        }
        guard experts.all >= 2, (1...experts.all).contains(experts.used) else {
            object.reject("experts must be at least two per layer, of which a token uses at least one and at most all")
            return
        }
        guard let active else {
            object.reject("experts need active: the parameters that one token passes through")
            return
        }
        let least = parameters * Double(experts.used) / Double(experts.all)
        // Counts are rounded by who publishes them.
        if active < least * 0.98 {
            object.reject(
                "active must be at least parameters × \(experts.used)/\(experts.all), the experts' share alone"
            )
        }
    }

    static func connector(_ object: DocumentObject) -> Connector? {
        let nameValue = object.required("name")
        let name = nameValue?.string(maxLength: nameLength)
        if name?.lowercased() == Connector.unknown.name {
            nameValue?.reject("must not be \(Connector.unknown.name): that is what nobody has described")
        }
        let aliases = strings(object.optional("aliases"))
        let fixed = object.required("fixedMs")?.number(in: 0...60_000)
        let efficiency = object.number("efficiency", in: 0.01...1, default: Connector.unknown.efficiency)
        let isLayerwise = object.bool("layerwise", default: false)
        let unequal = object.bool("unequalTP", default: true)
        let error = object.number("error", in: 0...1, default: Connector.describedError)
        let source = object.string("source", default: "")
        guard let name, let fixed else { return nil }
        return Connector(
            name: name,
            aliases: aliases,
            fixedCost: Seconds(milliseconds: fixed),
            efficiency: efficiency,
            isLayerwise: isLayerwise,
            allowsUnequalTensorParallel: unequal,
            error: error,
            source: source
        )
    }

    static func efficiency(_ object: DocumentObject) -> Efficiency? {
        guard let name = object.required("accelerator")?.string(maxLength: nameLength) else { return nil }
        var result = Efficiency(accelerator: name)
        result.weights = object.number("weights", in: share, default: result.weights)
        result.kv = object.number("kv", in: share, default: result.kv)
        result.attention = object.number("attention", in: share, default: result.attention)
        if let three = numbers(object.optional("dense"), share, ["bf16", "fp8", "fp4"]) {
            result.dense = Efficiency.Shares(bfloat16: three[0], fp8: three[1], fp4: three[2])
        }
        if let three = numbers(object.optional("experts"), share, ["bf16", "fp8", "fp4"]) {
            result.experts = Efficiency.Shares(bfloat16: three[0], fp8: three[1], fp4: three[2])
        }
        if let three = numbers(object.optional("allReduceGBps"), 0.01...100_000, ["2 ranks", "4 ranks", "8 ranks"]) {
            result.allReduceBandwidth = Efficiency.AllReduceBandwidth(
                two: three[0] * 1e9,
                four: three[1] * 1e9,
                eight: three[2] * 1e9
            )
        }
        func microseconds(_ key: String, _ field: WritableKeyPath<Efficiency, Double>) {
            result[keyPath: field] = object.number(key, in: 0...10_000, default: result[keyPath: field] * 1e6) / 1e6
        }
        microseconds("layerUs", \.perLayer)
        microseconds("quantizedLayerUs", \.perQuantizedLayer)
        microseconds("expertLayerUs", \.perExpertLayer)
        microseconds("allReduceUs", \.allReduce)
        microseconds("expertTokenLayerUs", \.perExpertTokenLayer)
        microseconds("sequenceLayerUs", \.perSequenceLayer)
        return result
    }

    /// Above 1 for weights: a fit may split what it measures otherwise between streaming and launches.
    private static let share = 0.01...1.5

    static func correction(_ object: DocumentObject) -> ServingCorrection? {
        let accelerator = object.required("accelerator")?.string(maxLength: nameLength)
        let engine = object.required("engine")?.string(maxLength: nameLength)
        let prefill = object.number("prefillScale", in: 0.1...10, default: 1)
        let decode = object.number("decodeScale", in: 0.1...10, default: 1)
        let overhead = object.required("ttftOverheadMs")?.number(in: 0...60_000)
        let provenance = object.required("provenance")?.string()
        guard let accelerator, let engine, let overhead, let provenance else { return nil }
        return ServingCorrection(
            accelerator: accelerator,
            engine: engine,
            prefillScale: prefill,
            decodeScale: decode,
            ttftOverhead: Seconds(milliseconds: overhead),
            provenance: provenance
        )
    }

    static func price(_ object: DocumentObject) -> ListedPrice? {
        let accelerator = object.required("accelerator")?.string(maxLength: nameLength)
        let dollars = object.required("usdPerHour")?.number(in: 0...1000)
        let provider = object.string("provider", default: "")
        let kind = object.string("kind", default: "")
        let date = object.required("date").flatMap(date)
        let source = object.required("source")?.string()
        guard let accelerator, let dollars, let date, let source else { return nil }
        return ListedPrice(
            accelerator: accelerator,
            dollarsPerHour: dollars,
            provider: provider,
            kind: kind,
            date: date,
            source: source
        )
    }

    /// A year, month or day, or a word that says why there is none.
    private static func date(_ value: DocumentValue) -> String? {
        guard let text = value.string() else { return nil }
        if text == "undated" || text == "unverified" { return text }
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        let ranges = [2000...2100, 1...12, 1...31]
        let isSound =
            (1...3).contains(parts.count)
            && zip(parts, ranges).enumerated().allSatisfy { index, part in
                part.0.utf8.count == (index == 0 ? 4 : 2) && Int(part.0).map(part.1.contains) ?? false
            }
        if isSound { return text }
        value.reject("must be a date as 2026-09-25 or 2026-09, or undated or unverified, not \(text)")
        return nil
    }

    /// Longer than any product label; names reach metrics as label values.
    static let nameLength = 128

    private static func strings(_ value: DocumentValue?) -> [String] {
        (value?.list(maxCount: 1000) ?? []).compactMap { element in
            guard let text = element.string(maxLength: nameLength) else { return nil }
            if text.contains(where: { $0.isLetter || $0.isNumber }) { return text }
            element.reject("must hold a letter or a digit: an alias of `*` alone would match every name")
            return nil
        }
    }

    private static func numbers(
        _ value: DocumentValue?,
        _ range: ClosedRange<Double>,
        _ names: [String]
    ) -> [Double]? {
        guard let value else { return nil }
        let values = value.list(maxCount: names.count).map { $0.number(in: range) }
        guard values.count == names.count else {
            value.reject("must be a list of \(names.count) numbers: \(names.joined(separator: ", "))")
            return nil
        }
        let sound = values.compactMap(\.self)
        return sound.count == values.count ? sound : nil
    }

    private static func pair(_ value: DocumentValue?, _ range: ClosedRange<Int>, _ what: String) -> (Int, Int)? {
        guard let value else { return nil }
        let values = value.list(maxCount: 2).map { $0.integer(in: range) }
        guard values.count == 2 else {
            value.reject("must be a list of two: \(what)")
            return nil
        }
        guard let a = values[0], let b = values[1] else { return nil }
        return (a, b)
    }
}
