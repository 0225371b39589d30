// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Router

/// What an operator may say of cached prefixes: the section `kvCache`.
package struct KVCacheSettings: Sendable, Hashable {
    /// Whose count of cached tokens the answer of a pair carries.
    package enum PairCachedTokens: String, Sendable, Hashable, CaseIterable {
        /// The prefill pod's: the decode pod's sidecar, or its engine, patches it in.
        case prefill
        /// The decode pod's own, which says nothing of the prefill pod.
        case unknown
    }

    package var pairCachedTokens = PairCachedTokens.unknown
    package var tokenizer = TokenizerSettings()
    package var stores: [StoreSettings] = []

    package init() {}

    package var pairsReportPrefill: Bool { pairCachedTokens == .prefill }

    static func read(_ value: DocumentValue) -> KVCacheSettings? {
        value.object { object in
            var settings = KVCacheSettings()
            settings.pairCachedTokens = object.choice("pairCachedTokens", default: settings.pairCachedTokens)
            if let tokenizer = object.optional("tokenizer").flatMap(TokenizerSettings.read) {
                settings.tokenizer = tokenizer
            }
            settings.stores = (object.optional("stores")?.list(maxCount: SharedStore.maximum) ?? [])
                .compactMap(StoreSettings.read)
            return settings
        }
    }
}
