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

    private var places: [String: Int] = [:]
    private var sums: [Sums] = []
    /// The model that was learned of last: most requests of a fleet are for one, and comparing costs less than hashing.
    private var last: (name: String, place: Int)?

    package init() {}

    private func place(of name: String) -> Int? {
        if let last, last.name == name { return last.place }
        return places[name]
    }

    package mutating func learn(model: String?, promptBytes: Int, promptTokens: Int) {
        guard promptBytes > 0, promptTokens > 0 else { return }
        let ratio = Double(promptTokens) / Double(promptBytes)
        guard Self.credible.contains(ratio) else { return }
        let name = model ?? ""
        let place: Int
        if let known = self.place(of: name) {
            place = known
        } else {
            guard sums.count < Self.maximumModels else { return }
            place = sums.count
            sums.append(Sums())
            places[name] = place
        }
        last = (name, place)
        sums[place].tokens = sums[place].tokens * Self.memory + Double(promptTokens)
        sums[place].bytes = sums[place].bytes * Self.memory + Double(promptBytes)
    }

    package func tokensPerByte(model: String?) -> Double {
        guard let place = place(of: model ?? ""), sums[place].bytes > 0 else { return Self.initialRatio }
        return sums[place].tokens / sums[place].bytes
    }

    /// At least one token.
    package func tokens(model: String?, promptBytes: Int) -> Int {
        Self.tokens(promptBytes: promptBytes, tokensPerByte: tokensPerByte(model: model))
    }

    /// The same, where the ratio is known already.
    package static func tokens(promptBytes: Int, tokensPerByte: Double) -> Int {
        let tokens = Double(max(promptBytes, 0)) * tokensPerByte
        return max(Int(min(tokens, 1e9).rounded()), 1)
    }
}
