// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration

/// The annotation `epp-pd.io/profile`: a mapping in YAML or JSON, with the keys of a pool's entry in the configuration.
enum ProfileAnnotation {
    static let name = "epp-pd.io/profile"

    /// - Returns: what it says, and what is wrong in it: then it says nothing.
    static func read(_ annotations: [String: String]) -> (facts: PoolDefaults?, problems: [String]) {
        guard let text = annotations[name] else { return (nil, []) }
        do {
            return (try Document.read(text: text, file: name, PoolDefaults.read), [])
        } catch {
            return (nil, error.errors.map(\.description))
        }
    }
}
