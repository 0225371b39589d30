// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

extension PodProfile {
    /// Gives the pod so many times its KV memory. Policies know of it, as of all in a profile.
    package mutating func scaleKVMemory(by factor: Double) {
        kvCapacityTokens = Int(min(max(Double(kvCapacityTokens) * factor, 1), 1e15).rounded())
    }
}
