// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel

/// Entries that a fit needs beside it: facts of a model and of an accelerator that no profile describes.
struct FitStubs {
    private(set) var models: [ModelFacts] = []
    private(set) var accelerators: [Accelerator] = []
    /// What the user should know of them.
    private(set) var notes: [String] = []

    init(_ fit: ProfilesFit, _ catalog: ProfileCatalog) throws {
        let isKnown = catalog.model(named: fit.model) != nil
        if isKnown, fit.config != nil {
            notes.append("note: a profile describes the model \(fit.model) already: --config is not used")
        } else if let config = fit.config {
            do {
                models.append(try ModelConfigFile.read(path: config, name: fit.model))
            } catch {
                Console.error("\(error)")
                throw ExitCode(1)
            }
        } else if !isKnown {
            notes.append(
                "note: no profile describes the model \(fit.model): only this very configuration can be estimated from "
                    + "the fit; give --config config.json for others"
            )
        }
        let hasFigures = fit.memory != nil || fit.memoryBandwidth != nil || fit.tflops != nil
        guard hasFigures || catalog.accelerator(named: fit.accelerator) == nil else { return }
        let base = catalog.accelerator(named: fit.accelerator) ?? catalog.assumedAccelerator(named: fit.accelerator)
        accelerators.append(described(base, fit))
        if !isDescribed(fit) {
            notes.append(
                "note: some figures of the accelerator \(base.name) are assumed (memory, bandwidth, operations, price): "
                    + "edit them in the file; they are marked unverified"
            )
        }
    }

    private func isDescribed(_ fit: ProfilesFit) -> Bool {
        fit.memory != nil && fit.memoryBandwidth != nil && fit.tflops != nil && fit.pricePerHour != nil
    }

    private func described(_ base: Accelerator, _ fit: ProfilesFit) -> Accelerator {
        var result = base
        result.memoryBytes = fit.memory.map { $0 * 1e9 } ?? base.memoryBytes
        result.memoryBandwidth = fit.memoryBandwidth.map { $0 * 1e9 } ?? base.memoryBandwidth
        if let tflops = fit.tflops {
            result.bfloat16Flops = tflops * 1e12
            result.fp8Flops = nil
            result.fp4Flops = nil
        }
        result.pricePerHour = fit.pricePerHour ?? base.pricePerHour
        result.isVerified = false
        result.source =
            isDescribed(fit)
            ? "stated to profiles fit" : "stated to profiles fit in part, the rest assumed: to be edited"
        return result
    }
}
