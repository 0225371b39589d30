// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// An InferenceModel (v1alpha2, Inference Extension 0.5 and older): criticality and traffic split of a model name.
package struct InferenceModel: KubernetesObject, Hashable {
    package enum Criticality: String, Decodable, Sendable {
        case critical = "Critical"
        case standard = "Standard"
        case sheddable = "Sheddable"

        /// Priorities as InferenceObjectives give them: below zero may be refused under load.
        package var priority: Int {
            switch self {
            case .critical: 1
            case .standard: 0
            case .sheddable: -1
            }
        }
    }

    package struct Target: Decodable, Sendable, Hashable {
        package var name: String
        package var weight: Int?
    }

    package struct Spec: Decodable, Sendable, Hashable {
        package var modelName: String
        package var criticality: Criticality?
        package var targetModels: [Target]?
        package var poolRef: PoolReference
    }

    package var metadata: ObjectMetadata
    package var spec: Spec

    package init(
        metadata: ObjectMetadata,
        pool: String,
        modelName: String,
        criticality: Criticality? = nil,
        targetModels: [Target] = []
    ) {
        self.metadata = metadata
        spec = Spec(
            modelName: modelName,
            criticality: criticality,
            targetModels: targetModels,
            poolRef: PoolReference(name: pool)
        )
    }
}
