// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Prompt tokens per byte of text, learned per model from reported usage.
///
/// The ratio of decayed sums, so that long prompts, whose length matters, decide it rather than templates around short
/// ones.
package struct PromptLengths: Sendable {
    /// Before anything was reported: English in today's vocabularies takes about four bytes per token.
    package static let initialRatio = 0.25
    /// A reported ratio outside of this is not believed: 16 bytes per token, or two tokens per byte.
    static let credible = 0.0625...2.0
    package static let maximumModels = 256
    /// Share of the sums kept at each report: some 50 requests' memory.
    static let memory = 0.98

    private struct Sums: Sendable {
        var tokens = 0.0
        var bytes = 0.0
    }

    private var sums: [String: Sums] = [:]

    package init() {}

    package mutating func learn(model: String?, promptBytes: Int, promptTokens: Int) {
        guard promptBytes > 0, promptTokens > 0 else { return }
        let ratio = Double(promptTokens) / Double(promptBytes)
        guard Self.credible.contains(ratio) else { return }
        let name = model ?? ""
        guard sums[name] != nil || sums.count < Self.maximumModels else { return }
        var sum = sums[name] ?? Sums()
        sum.tokens = sum.tokens * Self.memory + Double(promptTokens)
        sum.bytes = sum.bytes * Self.memory + Double(promptBytes)
        sums[name] = sum
    }

    package func tokensPerByte(model: String?) -> Double {
        guard let sum = sums[model ?? ""], sum.bytes > 0 else { return Self.initialRatio }
        return sum.tokens / sum.bytes
    }

    /// At least one token.
    package func tokens(model: String?, promptBytes: Int) -> Int {
        let tokens = Double(max(promptBytes, 0)) * tokensPerByte(model: model)
        return max(Int(min(tokens, 1e9).rounded()), 1)
    }
}
