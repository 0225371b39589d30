// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import CostModel

/// `epp-pd profiles show`
struct ProfilesShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "All that is known of one accelerator, model or connector."
    )

    @OptionGroup var profiles: ProfileOptions
    @Argument(help: "Its name, or an alias.")
    var name: String
    @Flag(help: "One JSON object on one line.")
    var json = false

    func run() throws {
        let catalog = try profiles.catalog()
        if let accelerator = catalog.accelerator(named: name) {
            guard !json else { return print(try JSONLine.encode(accelerator)) }
            return show(accelerator, catalog)
        }
        if let model = catalog.model(named: name) {
            guard !json else { return print(try JSONLine.encode(model)) }
            return show(model, catalog)
        }
        let connector = catalog.connector(named: name)
        guard connector.name != Connector.unknown.name else {
            Console.error("no accelerator, model or connector is named \(name)")
            throw ExitCode(1)
        }
        guard !json else { return print(try JSONLine.encode(connector)) }
        print(
            """
            \(connector.name): \(Numbers.milliseconds(connector.fixedCost.rawValue)) ms per transfer, \
            \(Numbers.fixed(connector.efficiency * 100, 0)) % of the line, \
            \(connector.isLayerwise ? "layer by layer" : "after prefill"), unequal tensor parallelism \
            \(connector.allowsUnequalTensorParallel ? "allowed" : "refused")
            source: \(connector.source)
            """
        )
    }

    private func show(_ accelerator: Accelerator, _ catalog: ProfileCatalog) {
        func tera(_ value: Double?) -> String { value.map { Numbers.fixed($0 / 1e12, 0) } ?? "–" }
        print(
            """
            \(accelerator.name)\(accelerator.isVerified ? "" : " (unverified: bands are wider)")
              memory      \(Numbers.fixed(accelerator.memoryBytes / 1e9, 0)) GB, \
            \(Numbers.fixed(accelerator.memoryBandwidth / 1e12, 2)) TB/s
              dense TF    bf16 \(tera(accelerator.bfloat16Flops)), fp8 \(tera(accelerator.fp8Flops)), \
            fp4 \(tera(accelerator.fp4Flops))
              links       \(accelerator.scaleUpBandwidth.map { Numbers.fixed($0 / 1e9, 0) } ?? "–") GB/s to peers, \
            \(accelerator.networkBandwidth.map { Numbers.fixed($0 * 8 / 1e9, 0) } ?? "–") Gbit/s network
              price       \(Numbers.fixed(accelerator.pricePerHour, 2)) $/h
              aliases     \(accelerator.aliases.joined(separator: ", "))
              source      \(accelerator.source)

            """
        )
        let prices = catalog.prices.filter { $0.accelerator == accelerator.name }
        if !prices.isEmpty {
            var table = TextTable([("$/h", .right), ("provider", .left), ("kind", .left), ("date", .left)])
            for price in prices {
                table.add([Numbers.fixed(price.dollarsPerHour, 2), price.provider, price.kind, price.date])
            }
            print(table.rendered(indent: 2) + "\n")
        }
        for correction in catalog.corrections where correction.accelerator == accelerator.name {
            print(
                "  \(correction.engine): decode × \(correction.decodeScale), prefill × \(correction.prefillScale), "
                    + "\(Numbers.milliseconds(correction.ttftOverhead.rawValue)) ms fixed; \(correction.provenance)\n"
            )
        }
        let fits = catalog.fits.filter { $0.accelerator == accelerator.name }
        print(fits.isEmpty ? "no fits: estimated from these facts" : FitTable.rendered(fits))
        for provenance in Set(fits.map(\.provenance)).sorted() { print("\n\(provenance)") }
    }

    private func show(_ model: ModelFacts, _ catalog: ProfileCatalog) {
        let kv = { (dtype: KVDtype) in Numbers.fixed(model.kvBytesPerToken(dtype: dtype), 0) }
        print(
            """
            \(model.name)\(model.isVerified ? "" : " (unverified: bands are wider)")
              parameters  \(Numbers.fixed(model.parameters / 1e9, 1)) billion, \
            \(Numbers.fixed(model.activeParameters / 1e9, 1)) active, native \(model.nativeDtype.rawValue)
              shape       \(model.layers) layers, hidden \(model.hiddenSize), \(model.attentionHeads) heads, \
            \(model.kvHeads) KV heads of \(model.headDimension)
              experts     \(model.experts > 0 ? "\(model.experts), \(model.expertsPerToken) per token" : "none")
              attention   \(attention(model))
              KV          \(kv(.bfloat16)) bytes per token in bfloat16, \(kv(.fp8)) in fp8
              aliases     \(model.aliases.joined(separator: ", "))

            """
        )
        let fits = catalog.fits.filter { $0.model == model.name }
        print(fits.isEmpty ? "no fits: estimated by the fallback ladder" : FitTable.rendered(fits))
    }

    private func attention(_ model: ModelFacts) -> String {
        if model.latentDimension > 0 { return "latent of \(model.latentDimension), held whole by every rank" }
        guard model.windowedLayers > 0 else { return "full" }
        return "\(model.windowedLayers) layers stop at \(model.window) tokens"
    }
}
