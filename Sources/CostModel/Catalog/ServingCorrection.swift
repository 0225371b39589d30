// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What a whole serving engine does differently from the kernels that the fits were composed of.
///
/// Fitted on end-to-end runs, one scale per (accelerator, engine, phase).
package struct ServingCorrection: Sendable, Hashable, Codable {
    /// Canonical names. `*` = any accelerator.
    package var accelerator: String
    package var engine: String
    /// Multiply every prefill and decode duration.
    package var prefillScale: Double
    package var decodeScale: Double
    /// Tokenising, HTTP and scheduling on top of prefill.
    package var ttftOverhead: Seconds
    package var provenance: String

    package init(
        accelerator: String,
        engine: String,
        prefillScale: Double = 1,
        decodeScale: Double = 1,
        ttftOverhead: Seconds,
        provenance: String = ""
    ) {
        self.accelerator = accelerator
        self.engine = engine
        self.prefillScale = prefillScale
        self.decodeScale = decodeScale
        self.ttftOverhead = ttftOverhead
        self.provenance = provenance
    }
}
