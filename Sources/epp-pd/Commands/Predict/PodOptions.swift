// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel

/// Where the profiles are.
struct ProfileOptions: ParsableArguments {
    @Option(help: "Folder of profiles. Default: $EPP_PD_PROFILES, or the ones that come with epp-pd.")
    var profiles: String?

    func catalog() throws -> ProfileCatalog {
        guard let folder = ProfileFolder.find(flag: profiles) else {
            Console.error("no folder of profiles: name one with --profiles")
            throw ExitCode(2)
        }
        do {
            return try ProfileLoader.load(folder: folder)
        } catch {
            Console.error("\(error)")
            throw ExitCode(2)
        }
    }
}

/// The pod that a prediction is for.
struct PodOptions: ParsableArguments {
    @OptionGroup var profiles: ProfileOptions
    @Option(help: "Accelerator: a profile's name, or as clusters label it.")
    var accelerator: String
    @Option(help: "Model: a profile's name, or as servers call it.")
    var model: String
    @Option(name: [.customLong("tp"), .long], help: "Accelerators of the pod.")
    var tensorParallel = 1
    @Option(help: "Number format of the weights: bfloat16, fp8, fp4, int4. Default: the model's native one.")
    var dtype: String?
    @Option(help: "Number format of the KV cache: auto (= bfloat16), bfloat16, fp8.")
    var kvDtype: String?
    @Option(help: "Engine whose end-to-end correction applies, such as vllm. Default: the kernels alone.")
    var engine: String?
    @Option(help: "Dollars per accelerator and hour. Default: the accelerator's.")
    var pricePerHour: Double?
    @Option(help: "Network line per accelerator, Gbit/s. Default: the accelerator's.")
    var networkGbps: Double?
    @Flag(help: "One JSON object on one line.")
    var json = false

    func validate() throws {
        guard (1...1024).contains(tensorParallel) else { throw ValidationError("--tp must be from 1 to 1024") }
        if let dtype, !WeightDtype.isAccepted(dtype) {
            throw ValidationError("--dtype must be bfloat16, fp8, fp4 or int4, not \(dtype)")
        }
        if let kvDtype, KVDtype(named: kvDtype) == nil {
            throw ValidationError("--kv-dtype must be auto, bfloat16 or fp8, not \(kvDtype)")
        }
        if let pricePerHour, !(0...1000).contains(pricePerHour) {
            throw ValidationError("--price-per-hour must be from 0 to 1000")
        }
        if let networkGbps, !(0.001...100_000).contains(networkGbps) {
            throw ValidationError("--network-gbps must be from 0.001 to 100000")
        }
    }

    func query() -> ProfileQuery {
        ProfileQuery(
            accelerator: accelerator,
            model: model,
            tensorParallel: tensorParallel,
            dtype: dtype,
            engine: engine,
            kvDtype: kvDtype,
            pricePerHour: pricePerHour,
            networkGbps: networkGbps
        )
    }

    /// The pod's profile, with a warning where it stands on guesses.
    func resolve(_ catalog: ProfileCatalog) -> ProfileResolution { resolve(query(), catalog) }

    /// `first`: a pod that was resolved before; what it lacks as well is not warned of twice.
    func resolve(
        _ query: ProfileQuery,
        _ catalog: ProfileCatalog,
        after first: ProfileResolution? = nil
    ) -> ProfileResolution {
        let resolution = catalog.resolve(query)
        if !resolution.isKnownAccelerator, resolution.accelerator != first?.accelerator {
            let name = query.accelerator
            Console.error("warning: nobody has described accelerator \(name): a conservative default stands in")
        }
        if !resolution.isKnownModel, resolution.model != first?.model {
            Console.error("warning: nobody has described model \(query.model): its shape is guessed")
        }
        return resolution
    }
}

/// Token counts that are finite and far from what could overflow.
func checked(_ value: Double, _ name: String, from least: Double = 0) throws {
    guard value >= least, value <= 1e9 else { throw ValidationError("--\(name) must be from \(least) to 1e9") }
}
