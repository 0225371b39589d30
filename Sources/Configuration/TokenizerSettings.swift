// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// How the picker has engines cut prompts into tokens, so that their KV events can be looked up.
package struct TokenizerSettings: Sendable, Hashable {
    package enum Source: String, Sendable, Hashable, CaseIterable {
        /// Nobody is asked: only requests that carry token ids are looked up exactly.
        case none
        /// vLLM's POST /tokenize.
        case tokenize
        /// vLLM's POST /v1/…/render, which applies the chat template as serving does.
        case render
    }

    package var source = Source.none
    /// A request waits so long for its tokens, then its text has to do.
    package var deadline = Seconds(0.03)
    /// Questions at a time.
    package var connections = 4
    package var cacheMiB = 64
    /// Shorter prompts are not worth the question: recomputing them takes no longer.
    package var leastBytes = 2_048

    package init() {}

    static func read(_ value: DocumentValue) -> TokenizerSettings? {
        value.object { object in
            var settings = TokenizerSettings()
            settings.source = object.choice("source", default: settings.source)
            settings.deadline = object.duration(
                "deadline",
                in: Seconds(0.001)...Seconds(5),
                default: settings.deadline
            )
            settings.connections = object.integer("connections", in: 1...64, default: settings.connections)
            settings.cacheMiB = object.integer("cacheMiB", in: 0...65_536, default: settings.cacheMiB)
            settings.leastBytes = object.integer("leastBytes", in: 0...(1 << 30), default: settings.leastBytes)
            return settings
        }
    }
}
