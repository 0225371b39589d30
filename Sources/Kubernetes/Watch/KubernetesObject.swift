// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Namespace and name: unique among the objects of one kind.
package struct ObjectName: Sendable, Hashable, Comparable, Codable, CustomStringConvertible {
    /// Empty for what belongs to no namespace, such as nodes.
    package var namespace: String
    package var name: String

    package init(namespace: String = "", name: String) {
        self.namespace = namespace
        self.name = name
    }

    package static func < (a: ObjectName, b: ObjectName) -> Bool {
        (a.namespace, a.name) < (b.namespace, b.name)
    }

    package var description: String { namespace.isEmpty ? name : "\(namespace)/\(name)" }
}

/// What is read of every object's metadata.
package struct ObjectMetadata: Decodable, Sendable, Hashable {
    package var name: String
    package var namespace: String
    package var uid: String
    package var labels: [String: String]
    package var annotations: [String: String]
    /// When it was asked to be deleted: from then on it is on its way out.
    package var deletionTimestamp: String?

    package var objectName: ObjectName { ObjectName(namespace: namespace, name: name) }

    package init(
        name: String,
        namespace: String = "",
        uid: String = "",
        labels: [String: String] = [:],
        annotations: [String: String] = [:],
        deletionTimestamp: String? = nil
    ) {
        self.name = name
        self.namespace = namespace
        self.uid = uid
        self.labels = labels
        self.annotations = annotations
        self.deletionTimestamp = deletionTimestamp
    }

    private enum CodingKeys: String, CodingKey {
        case name, namespace, uid, labels, annotations, deletionTimestamp
    }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        name = try values.decode(String.self, forKey: .name)
        namespace = try values.decodeIfPresent(String.self, forKey: .namespace) ?? ""
        uid = try values.decodeIfPresent(String.self, forKey: .uid) ?? ""
        labels = try values.decodeIfPresent([String: String].self, forKey: .labels) ?? [:]
        annotations = try values.decodeIfPresent([String: String].self, forKey: .annotations) ?? [:]
        deletionTimestamp = try values.decodeIfPresent(String.self, forKey: .deletionTimestamp)
    }
}

/// An object of the API, as far as it is read. Two are equal where nothing changed that we read: status updates that do not
/// concern us make no work.
package protocol KubernetesObject: Decodable, Sendable, Equatable {
    var metadata: ObjectMetadata { get }
}
