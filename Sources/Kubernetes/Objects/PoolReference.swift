// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Which pool an object of the Inference Extension belongs to.
package struct PoolReference: Decodable, Sendable, Hashable {
    /// nil: the schema's default.
    package var group: String?
    package var name: String

    package init(group: String? = nil, name: String) {
        self.group = group
        self.name = name
    }
}

/// A model name with its share of the traffic.
package struct WeightedModel: Sendable, Hashable {
    package var name: String
    package var weight: Int?

    package init(name: String, weight: Int? = nil) {
        self.name = name
        self.weight = weight
    }
}
