// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import CostModel

/// `epp-pd profiles list`
struct ProfilesList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "Every accelerator and every fitted configuration: from where, how good."
    )

    @OptionGroup var profiles: ProfileOptions
    @Option(help: "Only this accelerator.")
    var accelerator: String?
    @Option(help: "Only this model.")
    var model: String?
    @Flag(help: "Every configuration, not a line per accelerator.")
    var all = false
    @Flag(help: "One JSON object on one line.")
    var json = false

    struct Entry: Encodable {
        var accelerator: String
        var model: String
        var tp: Int
        var dtype: String
        var engine: String
        var prefill_error: Double
        var decode_error: Double
        var derived_from: String?
        var provenance: String
    }

    func run() throws {
        let catalog = try profiles.catalog()
        let fits = catalog.fits.filter { fit in
            (accelerator.map { catalog.acceleratorName($0) == fit.accelerator } ?? true)
                && (model.map { catalog.modelName($0) == fit.model } ?? true)
        }
        if json {
            let entries = fits.map { fit in
                Entry(
                    accelerator: fit.accelerator,
                    model: fit.model,
                    tp: fit.tensorParallel,
                    dtype: fit.dtype.rawValue,
                    engine: fit.engine,
                    prefill_error: fit.prefillError,
                    decode_error: fit.decodeError,
                    derived_from: fit.derivedFrom,
                    provenance: fit.provenance
                )
            }
            return print(try JSONLine.encode(entries))
        }
        if all || accelerator != nil || model != nil {
            print(FitTable.rendered(fits))
        } else {
            print(overview(catalog))
        }
    }

    private func overview(_ catalog: ProfileCatalog) -> String {
        var table = TextTable([
            ("accelerator", .left), ("memory", .right), ("bandwidth", .right), ("bf16", .right), ("$/h", .right),
            ("fits", .right), ("models", .right), ("prefill err", .right), ("decode err", .right), ("facts", .left),
        ])
        for accelerator in catalog.accelerators {
            let fits = catalog.fits.filter { $0.accelerator == accelerator.name }
            let isDerived = !fits.isEmpty && fits.allSatisfy { $0.derivedFrom != nil }
            func median(_ values: [Double]) -> String {
                values.isEmpty ? "–" : Numbers.fixed(values.sorted()[values.count / 2] * 100, 1) + " %"
            }
            table.add([
                accelerator.name, Numbers.fixed(accelerator.memoryBytes / 1e9, 0) + " GB",
                Numbers.fixed(accelerator.memoryBandwidth / 1e12, 2) + " TB/s",
                Numbers.fixed(accelerator.bfloat16Flops / 1e12, 0) + " TF", Numbers.fixed(accelerator.pricePerHour, 2),
                fits.isEmpty ? "–" : "\(fits.count)\(isDerived ? " derived" : "")",
                fits.isEmpty ? "–" : "\(Set(fits.map(\.model)).count)", median(fits.map(\.prefillError)),
                median(fits.map(\.decodeError)), accelerator.isVerified ? "verified" : "unverified",
            ])
        }
        let own = catalog.fits.count { $0.derivedFrom == nil }
        return table.rendered()
            + "\n\n\(own) fitted and \(catalog.fits.count - own) derived configurations, \(catalog.models.count) models. "
            + "An accelerator without fits is estimated from its facts.\nMore: epp-pd profiles list --all, "
            + "epp-pd profiles show NAME"
    }
}

/// Configurations as a table.
enum FitTable {
    static func rendered(_ fits: [FittedConfiguration]) -> String {
        var table = TextTable([
            ("accelerator", .left), ("model", .left), ("tp", .right), ("dtype", .left), ("c0 ms", .right),
            ("ms/ktok", .right), ("d0 ms", .right), ("ms/Mkv", .right), ("prefill err", .right), ("decode err", .right),
            ("source", .left),
        ])
        let order = fits.sorted {
            ($0.accelerator, $0.model, $0.dtype.rawValue, $0.tensorParallel)
                < ($1.accelerator, $1.model, $1.dtype.rawValue, $1.tensorParallel)
        }
        for fit in order {
            table.add([
                fit.accelerator, fit.model, "\(fit.tensorParallel)", fit.dtype.rawValue,
                Numbers.fixed(fit.prefill.base * 1e3, 1), Numbers.fixed(fit.prefill.perTokenAboveKnee * 1e6, 1),
                Numbers.fixed(fit.decode.base * 1e3, 1), Numbers.fixed(fit.decode.perKVToken * 1e9, 1),
                Numbers.fixed(fit.prefillError * 100, 1) + " %", Numbers.fixed(fit.decodeError * 100, 1) + " %",
                fit.derivedFrom.map { "derived from \($0)" } ?? (fit.isEndToEnd ? "live server" : "fitted"),
            ])
        }
        return table.rendered()
    }
}
