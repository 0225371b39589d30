// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Fleet
import Logging
import Synchronization

/// Says once of each accelerator and model that no profile knows it: its pods are estimated by cautious defaults. How many
/// there are stands in `epp_pd_endpoint_profiles`.
final class ProfileWarnings: Sendable {
    private let log: Logger
    private let said = Mutex<Set<String>>([])

    /// Names come from labels of pods: beyond this nothing more is said.
    static let maximumNames = 256

    init(log: Logger) { self.log = log }

    func check(_ description: EndpointDescription, _ catalog: ProfileCatalog) {
        let resolution = catalog.resolve(catalog.query(for: description))
        if !resolution.isKnownAccelerator {
            warn("accelerator", description.accelerator, description, "cautious defaults are used")
        }
        if !resolution.isKnownModel {
            warn("model", description.model, description, "it is guessed from its name")
        }
    }

    private func warn(_ what: String, _ name: String, _ description: EndpointDescription, _ then: String) {
        let isNew = said.withLock { $0.count < Self.maximumNames && $0.insert("\(what) \(name)").inserted }
        guard isNew else { return }
        log.warning(
            "no profile knows the \(what): \(then)",
            metadata: ["\(what)": "\(name)", "endpoint": "\(description.name)"]
        )
    }
}
