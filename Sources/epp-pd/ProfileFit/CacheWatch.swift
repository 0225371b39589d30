// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Whether the server's prefix cache held what the plan had put there, and nothing else.
struct CacheWatch {
    private var isUsed = false
    private var missing: (cached: Int, planned: Int)?
    private var foreign: (cached: Int, planned: Int)?

    /// The largest KV block of common engines, in tokens: they cache whole blocks, so that a count may be off by one.
    static let largestBlock = 128

    /// One prefill: tokens that the server says were cached, and those that the plan had sent before.
    mutating func note(cached: Int, planned: Int) {
        if cached > planned + Self.largestBlock {
            foreign = foreign ?? (cached, planned)
        } else if cached < planned - Self.largestBlock {
            missing = missing ?? (cached, planned)
        }
        if cached > 0, planned > 0 { isUsed = true }
    }

    /// A server without a prefix cache computes every prompt whole: that is measured as it is. One that caches some
    /// prompts and not others is used by somebody else as well.
    var problem: String? {
        if let foreign {
            return "the server had \(foreign.cached) tokens of a prompt cached where at most \(foreign.planned) were "
                + "meant to be: it has seen these prompts before (use another --seed) or caches them in part"
        }
        if isUsed, let missing {
            return "the server had \(missing.cached) tokens of a prompt cached where \(missing.planned) were meant to "
                + "be: something else displaces its cache; let it be idle, or lower --max-prompt"
        }
        return nil
    }
}
