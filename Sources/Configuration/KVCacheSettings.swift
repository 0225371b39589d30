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
    /// Tokens in which prompts are cut: every engine's block size must be a multiple of it, or its events cannot be used.
    /// 16 is vLLM's block; SGLang's pages have one token where it is not told otherwise.
    package var blockTokens = 16
    package var tokenizer = TokenizerSettings()
    package var stores: [StoreSettings] = []

    package init() {}

    package var pairsReportPrefill: Bool { pairCachedTokens == .prefill }

    static func read(_ value: DocumentValue) -> KVCacheSettings? {
        value.object { object in
            var settings = KVCacheSettings()
            settings.pairCachedTokens = object.choice("pairCachedTokens", default: settings.pairCachedTokens)
            settings.blockTokens = object.integer("blockTokens", in: 1...1_024, default: settings.blockTokens)
            if let tokenizer = object.optional("tokenizer").flatMap(TokenizerSettings.read) {
                settings.tokenizer = tokenizer
            }
            settings.stores = (object.optional("stores")?.list(maxCount: SharedStore.maximum) ?? [])
                .compactMap(StoreSettings.read)
            return settings
        }
    }
}
