// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Prompts of about so many tokens that share no beginning with any other, unless they are made to.
struct ProbePrompt {
    private var state: UInt64
    /// Bytes of this text per token of the server's tokenizer; measured by the first request.
    var bytesPerToken = 4.0

    private static let words = [
        "time", "river", "stone", "green", "seven", "window", "paper", "cloud", "music", "north", "silver", "garden",
        "table", "winter", "letter", "bridge", "sound", "field", "market", "water", "light", "engine", "story", "road",
    ]

    init(seed: UInt64) { state = seed }

    mutating func text(tokens: Int) -> String {
        let bytes = Int(Double(max(tokens, 1)) * bytesPerToken)
        // The number makes the very first tokens differ, so that no prefix is shared by chance.
        var text = "\(next() % 1_000_000_007)"
        while text.utf8.count < bytes {
            text += " " + ProbePrompt.words[Int(next() % UInt64(ProbePrompt.words.count))]
        }
        return String(decoding: text.utf8.prefix(max(bytes, 1)), as: UTF8.self)
    }

    /// SplitMix64.
    private mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
