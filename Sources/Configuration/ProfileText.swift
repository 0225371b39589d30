// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Writes entries as profile files hold them, so that what a command makes can be read and edited by people.
package enum ProfileText {
    /// A line under `models:`.
    package static func model(_ facts: ModelFacts, aliases: [String] = []) -> String {
        var parts = ["name: \(quoted(facts.name))"]
        if !aliases.isEmpty { parts.append("aliases: [\(aliases.map(quoted).joined(separator: ", "))]") }
        parts.append("parameters: \(number(facts.parameters / 1e9))")
        if facts.isMixtureOfExperts { parts.append("active: \(number(facts.activeParameters / 1e9))") }
        parts.append("layers: \(facts.layers), hidden: \(facts.hiddenSize), heads: \(facts.attentionHeads)")
        parts.append("kvHeads: \(facts.kvHeads), headDim: \(facts.headDimension)")
        if facts.experts > 0 { parts.append("experts: [\(facts.experts), \(facts.expertsPerToken)]") }
        if facts.windowedLayers > 0 { parts.append("windowed: [\(facts.windowedLayers), \(facts.window)]") }
        if facts.latentDimension > 0 { parts.append("latent: \(facts.latentDimension)") }
        if facts.nativeDtype != .bfloat16 { parts.append("dtype: \(facts.nativeDtype.rawValue)") }
        if !facts.isVerified { parts.append("verified: false") }
        if !facts.source.isEmpty { parts.append("source: \(quoted(facts.source))") }
        return "  - {\(parts.joined(separator: ", "))}\n"
    }

    /// A line under `accelerators:`.
    static func accelerator(_ facts: Accelerator) -> String {
        func giga(_ value: Double?, _ key: String, _ unit: Double) -> String? {
            value.map { "\(key): \(number($0 / unit))" }
        }
        let parts = [
            "name: \(quoted(facts.name))", giga(facts.memoryBytes, "memoryGB", 1e9),
            giga(facts.memoryBandwidth, "memoryGBps", 1e9), giga(facts.bfloat16Flops, "bf16", 1e12),
            giga(facts.fp8Flops, "fp8", 1e12), giga(facts.fp4Flops, "fp4", 1e12),
            giga(facts.scaleUpBandwidth, "scaleUpGBps", 1e9),
            giga(facts.networkBandwidth.map { $0 * 8 }, "networkGbps", 1e9),
            "usdPerHour: \(number(facts.pricePerHour))", facts.isVerified ? nil : "verified: false",
            facts.source.isEmpty ? nil : "source: \(quoted(facts.source))",
        ]
        return "  - {\(parts.compactMap(\.self).joined(separator: ", "))}\n"
    }

    /// A whole file with one fit, and entries of what it names that are to stand beside it.
    package static func file(
        _ fit: FittedConfiguration,
        models: [ModelFacts] = [],
        accelerators: [Accelerator] = []
    ) -> String {
        let described =
            (accelerators.isEmpty ? "" : "accelerators:\n" + accelerators.map(accelerator).joined())
            + (models.isEmpty ? "" : "models:\n" + models.map { model($0) }.joined())
        return described + file(of: fit)
    }

    private static func file(of fit: FittedConfiguration) -> String {
        let (p, d, s) = (fit.prefill, fit.decode, fit.mixed)
        func ms(_ value: Double) -> String { number(value * 1e3) }
        func perThousand(_ value: Double) -> String { number(value * 1e6) }
        func perMillion(_ value: Double) -> String { number(value * 1e9) }
        let overhead = fit.ttftOverhead.map { " ttftOverheadMs: \(number($0.milliseconds))," } ?? ""
        return """
            # ms: c0, d0 per step; c1, c3 per 1000 tokens; c2 per 10^6 pairs; d1 per sequence; d2 per 10^6 tokens.
            fits:
              - accelerator: \(quoted(fit.accelerator))
                engine: \(quoted(fit.engine))
                provenance: \(quoted(fit.provenance))
                endToEnd: \(fit.isEndToEnd)
                configurations:
                  - {model: \(quoted(fit.model)), tp: \(fit.tensorParallel), dtype: \(fit.dtype.rawValue),\(overhead)
                     prefill: {knee: \(number(p.knee)), c0: \(ms(p.base)), c1lo: \(perThousand(p.perTokenBelowKnee)), \
            c1hi: \(perThousand(p.perTokenAboveKnee)), c2: \(perMillion(p.perPair)), \
            c3: \(perThousand(p.perContextToken)), error: \(number(fit.prefillError))},
                     decode: {knee: \(number(d.knee)), d0: \(ms(d.base)), d1lo: \(ms(d.perSequenceBelowKnee)), \
            d1hi: \(ms(d.perSequenceAboveKnee)), d2: \(perMillion(d.perKVToken)), error: \(number(fit.decodeError))},
                     step: {knee: \(number(s.knee)), c0: \(ms(s.base)), c1lo: \(perThousand(s.perTokenBelowKnee)), \
            c1hi: \(perThousand(s.perTokenAboveKnee)), c2: \(perMillion(s.perPair)), d1: \(ms(s.perSequence)), \
            d2: \(perMillion(s.perKVToken)), error: \(number(fit.mixedError))}}

            """
    }

    /// Six significant digits, never an exponent that readers of YAML disagree about.
    static func number(_ value: Double) -> String {
        guard value.isFinite, value != 0 else { return "0" }
        var scale = 1.0
        while abs(value) * scale < 1e5, scale < 1e12 { scale *= 10 }
        let rounded = (value * scale).rounded() / scale
        let text = "\(rounded)"
        guard text.contains("e") else { return text.hasSuffix(".0") ? String(text.dropLast(2)) : text }
        return fixed(rounded)
    }

    /// Without an exponent, twelve digits behind the point.
    private static func fixed(_ value: Double) -> String {
        let whole = value.rounded(.towardZero)
        guard abs(whole) < 1e15 else { return "\(value)" }
        var rest = abs(value - whole)
        var text = value < 0 ? "-\(Int64(-whole))." : "\(Int64(whole))."
        for _ in 0..<12 {
            rest *= 10
            let digit = min(rest.rounded(.towardZero), 9)
            text += "\(Int(digit))"
            rest -= digit
        }
        return text
    }

    private static func quoted(_ text: String) -> String {
        let isPlain = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                true
            default: false
            }
        }
        let startsWithLetter = text.first?.isLetter ?? false
        if isPlain, startsWithLetter { return text }
        var escaped = ""
        for character in text.unicodeScalars {
            switch character {
            case "\"": escaped += "\\\""
            case "\\": escaped += "\\\\"
            case "\n", "\r", "\t": escaped += " "
            default: escaped.unicodeScalars.append(character)
            }
        }
        return "\"\(escaped)\""
    }
}
