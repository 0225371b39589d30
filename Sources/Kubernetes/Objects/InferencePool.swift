// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// An InferencePool, of `inference.networking.k8s.io/v1` or of the older `inference.networking.x-k8s.io/v1alpha2`: the
/// pods that its selector chooses, and the ports that they serve on.
package struct InferencePool: KubernetesObject, Hashable {
    /// The schema's bounds, for objects that an older schema let in.
    static let maxPorts = 8
    static let maxLabels = 64

    package var metadata: ObjectMetadata
    package var matchLabels: [String: String]
    package var targetPorts: [UInt16]
    /// The Service that gateways ask for this pool's routes. nil: none is named.
    package var picker: String?

    package init(
        metadata: ObjectMetadata,
        matchLabels: [String: String],
        targetPorts: [UInt16],
        picker: String? = nil
    ) {
        self.metadata = metadata
        self.matchLabels = matchLabels
        self.targetPorts = targetPorts
        self.picker = picker
    }

    private enum CodingKeys: String, CodingKey {
        case metadata, spec
    }

    private enum SpecKeys: String, CodingKey {
        case selector, targetPorts, targetPortNumber, endpointPickerRef, extensionRef
    }

    private struct PickerReference: Decodable {
        var name: String?
        /// Absent: Service, as the schema says.
        var kind: String?
    }

    private enum SelectorKeys: String, CodingKey {
        case matchLabels
    }

    private struct TargetPort: Decodable {
        var number: Int
    }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        metadata = try values.decode(ObjectMetadata.self, forKey: .metadata)
        let spec = try values.nestedContainer(keyedBy: SpecKeys.self, forKey: .spec)
        let numbers: [Int]
        if spec.contains(.targetPorts) {
            numbers = try spec.decode([TargetPort].self, forKey: .targetPorts).map(\.number)
        } else {
            numbers = [try spec.decode(Int.self, forKey: .targetPortNumber)]
        }
        var ports: [UInt16] = []
        for number in numbers {
            guard let port = UInt16(exactly: number), port > 0 else {
                throw Self.bad("spec.targetPorts", "\(number) is no port", spec.codingPath)
            }
            if !ports.contains(port) { ports.append(port) }
        }
        guard (1...Self.maxPorts).contains(ports.count) else {
            throw Self.bad("spec.targetPorts", "must have 1 to \(Self.maxPorts) ports", spec.codingPath)
        }
        targetPorts = ports
        let reference =
            try spec.decodeIfPresent(PickerReference.self, forKey: .endpointPickerRef)
            ?? spec.decodeIfPresent(PickerReference.self, forKey: .extensionRef)
        picker = reference?.kind ?? "Service" == "Service" ? reference?.name : nil
        let selector = try spec.nestedContainer(keyedBy: SelectorKeys.self, forKey: .selector)
        // The older form has the labels directly in the selector.
        matchLabels =
            try selector.decodeIfPresent([String: String].self, forKey: .matchLabels)
            ?? spec.decode([String: String].self, forKey: .selector)
        // An empty selector would make every pod of the namespace a model server.
        guard (1...Self.maxLabels).contains(matchLabels.count) else {
            throw Self.bad("spec.selector", "must name 1 to \(Self.maxLabels) labels", spec.codingPath)
        }
    }

    private static func bad(_ field: String, _ message: String, _ path: [any CodingKey]) -> DecodingError {
        .dataCorrupted(DecodingError.Context(codingPath: path, debugDescription: "\(field) \(message)"))
    }

    /// As kubectl writes it, in a fixed order.
    package var labelSelector: String {
        matchLabels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ",")
    }
}
