// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// An InferenceModelRewrite: requests for some models are served by others, by weight.
package struct InferenceModelRewrite: KubernetesObject, Hashable {
    package struct Rule: Decodable, Sendable, Hashable {
        package struct Match: Decodable, Sendable, Hashable {
            package struct Model: Decodable, Sendable, Hashable {
                package var value: String
            }

            package var model: Model
        }

        package struct Target: Decodable, Sendable, Hashable {
            package var modelRewrite: String
            package var weight: Int?
        }

        /// None: any model.
        package var matches: [Match]?
        package var targets: [Target]
    }

    package struct Spec: Decodable, Sendable, Hashable {
        package var poolRef: PoolReference
        package var rules: [Rule]
    }

    package var metadata: ObjectMetadata
    package var spec: Spec

    package init(metadata: ObjectMetadata, pool: String, rules: [Rule]) {
        self.metadata = metadata
        spec = Spec(poolRef: PoolReference(name: pool), rules: rules)
    }
}
