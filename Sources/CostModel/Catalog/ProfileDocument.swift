// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The contents of one profile file: any of its sections may be empty.
package struct ProfileDocument: Sendable, Hashable, Codable {
    package var accelerators: [Accelerator]
    package var models: [ModelFacts]
    package var connectors: [Connector]
    package var efficiencies: [Efficiency]
    package var corrections: [ServingCorrection]
    package var prices: [ListedPrice]
    package var fits: [FittedConfiguration]

    package init(
        accelerators: [Accelerator] = [],
        models: [ModelFacts] = [],
        connectors: [Connector] = [],
        efficiencies: [Efficiency] = [],
        corrections: [ServingCorrection] = [],
        prices: [ListedPrice] = [],
        fits: [FittedConfiguration] = []
    ) {
        self.accelerators = accelerators
        self.models = models
        self.connectors = connectors
        self.efficiencies = efficiencies
        self.corrections = corrections
        self.prices = prices
        self.fits = fits
    }
}
