// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What somebody asked for an accelerator, and when.
package struct ListedPrice: Sendable, Hashable, Codable {
    /// Canonical name.
    package var accelerator: String
    package var dollarsPerHour: Double
    package var provider: String
    package var kind: String
    /// ISO 8601 date, or `undated` or `unverified`.
    package var date: String
    package var source: String

    package init(
        accelerator: String,
        dollarsPerHour: Double,
        provider: String,
        kind: String,
        date: String,
        source: String
    ) {
        self.accelerator = accelerator
        self.dollarsPerHour = dollarsPerHour
        self.provider = provider
        self.kind = kind
        self.date = date
        self.source = source
    }
}
