// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

extension Int {
    /// A count from a figure of any origin: NaN and what is negative count as none, what is absurd as 10^9, more tokens
    /// than any model takes and far from what could overflow.
    package init(tokens: Double) {
        self = tokens >= 1 ? Int(Swift.min(tokens, 1e9)) : 0
    }
}
