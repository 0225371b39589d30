// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Fleet
import Router

/// What `validate` found.
struct Validation: Encodable, Hashable {
    /// One line for each thing that is in order.
    var checked: [String] = []
    var errors: [ConfigurationError] = []
    var warnings: [String] = []
    /// What was asked of the real world; nil where nothing was.
    var live: [LiveFinding]?

    private var pods: [EndpointDescription] = []

    private enum CodingKeys: String, CodingKey {
        case checked, errors, warnings, live
    }

    static func run(
        fleet: String?,
        config: String?,
        profiles: String?,
        isSimulated: Bool,
        live: LiveValidation? = nil
    ) -> Validation {
        var result = Validation()
        let catalog = result.readProfiles(profiles)
        let configuration = config.flatMap { result.readConfiguration($0) } ?? PickerConfiguration()
        let options = FleetFile.Options(needsAddresses: !isSimulated, engines: configuration.engines)
        if let fleet { result.readFleet(fleet, options, catalog) }
        result.live = live?.findings(of: result.pods, configuration, catalog)
        return result
    }

    private mutating func readProfiles(_ flag: String?) -> ProfileCatalog? {
        guard let folder = ProfileFolder.find(flag: flag) else {
            let message = "no profiles found: name their folder with --profiles or \(ProfileFolder.environmentVariable)"
            errors.append(ConfigurationError(file: "profiles", message: message))
            return nil
        }
        do {
            let catalog = try ProfileLoader.load(folder: folder)
            let found = ProfileChecks.errors(in: folder, catalog)
            guard found.isEmpty else {
                errors += found
                return catalog
            }
            checked.append(
                "\(folder): \(catalog.accelerators.count) accelerators, \(catalog.models.count) models, "
                    + "\(catalog.fits.count) fits"
            )
            return catalog
        } catch {
            errors += error.errors
            return nil
        }
    }

    private mutating func readConfiguration(_ path: String) -> PickerConfiguration? {
        do {
            let configuration = try PickerConfiguration.read(path: path)
            checked.append("\(path): configuration")
            return configuration
        } catch {
            errors += error.errors
            return nil
        }
    }

    private mutating func readFleet(_ path: String, _ options: FleetFile.Options, _ catalog: ProfileCatalog?) {
        do {
            let endpoints = try FleetFile.read(path: path, options: options)
            checked.append("\(path): \(endpoints.count) endpoints")
            pods = endpoints
            warn(of: endpoints, in: path, catalog)
        } catch {
            errors += error.errors
        }
    }

    /// What is allowed, and yet hardly meant.
    private mutating func warn(of endpoints: [EndpointDescription], in path: String, _ catalog: ProfileCatalog?) {
        if !endpoints.contains(where: \.role.canDecode) {
            warnings.append("\(path): no endpoint can decode: every request will be answered 503")
        }
        guard let catalog else { return }
        var said: Set<String> = []
        for endpoint in endpoints {
            let resolution = catalog.resolve(catalog.query(for: endpoint))
            if !resolution.isKnownAccelerator, said.insert("accelerator \(endpoint.accelerator)").inserted {
                warnings.append(
                    "\(path): no profile knows the accelerator \(endpoint.accelerator) (\(endpoint.name)): "
                        + "cautious defaults will be used"
                )
            }
            if !resolution.isKnownModel, said.insert("model \(endpoint.model)").inserted {
                warnings.append(
                    "\(path): no profile knows the model \(endpoint.model) (\(endpoint.name)): it will be guessed "
                        + "from its name"
                )
            }
        }
    }
}
