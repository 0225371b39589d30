// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A pod, as far as it says what a model server is and whether it serves.
package struct Pod: KubernetesObject, Hashable {
    package struct Container: Decodable, Sendable, Hashable {
        package var name: String
        package var image: String?
        package var command: [String]?
        package var args: [String]?
        package var resources: Resources?
        package var env: [Variable]?

        package init(
            name: String,
            image: String? = nil,
            command: [String]? = nil,
            args: [String]? = nil,
            resources: Resources? = nil,
            env: [Variable]? = nil
        ) {
            self.name = name
            self.image = image
            self.command = command
            self.args = args
            self.resources = resources
            self.env = env
        }
    }

    package struct Variable: Decodable, Sendable, Hashable {
        package var name: String
        /// nil where it comes from a secret or the like.
        package var value: String?
    }

    package struct Resources: Decodable, Sendable, Hashable {
        package var limits: [String: Quantity]?

        package init(limits: [String: Quantity]? = nil) { self.limits = limits }
    }

    package struct Spec: Decodable, Sendable, Hashable {
        package var nodeName: String?
        package var nodeSelector: [String: String]?
        package var containers: [Container]

        package init(
            nodeName: String? = nil,
            nodeSelector: [String: String]? = nil,
            containers: [Container] = []
        ) {
            self.nodeName = nodeName
            self.nodeSelector = nodeSelector
            self.containers = containers
        }
    }

    package struct Condition: Decodable, Sendable, Hashable {
        package var type: String
        package var status: String
    }

    package struct Status: Decodable, Sendable, Hashable {
        package var phase: String?
        package var podIP: String?
        package var conditions: [Condition]?

        package init(phase: String? = nil, podIP: String? = nil, conditions: [Condition]? = nil) {
            self.phase = phase
            self.podIP = podIP
            self.conditions = conditions
        }
    }

    package var metadata: ObjectMetadata
    package var spec: Spec
    package var status: Status?

    package init(metadata: ObjectMetadata, spec: Spec = Spec(), status: Status? = nil) {
        self.metadata = metadata
        self.spec = spec
        self.status = status
    }

    /// Passes its readiness probe.
    package var isReady: Bool {
        status?.conditions?.contains { $0.type == "Ready" && $0.status == "True" } ?? false
    }

    package var isTerminating: Bool { metadata.deletionTimestamp != nil }

    /// Its containers have ended, for good.
    package var isOver: Bool { status?.phase == "Succeeded" || status?.phase == "Failed" }
}

/// An amount of a resource. YAML authors write whole numbers without quotes; the server keeps text.
package struct Quantity: Decodable, Sendable, Hashable {
    package var text: String

    package init(_ text: String) { self.text = text }

    package init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if let number = try? value.decode(Int.self) {
            text = String(number)
        } else {
            text = try value.decode(String.self)
        }
    }

    /// nil where it is no whole number: devices come whole.
    package var count: Int? { Int(text) }
}
