// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FoundationEssentials

/// One object of a list or a watch: read, or named with the reason why it cannot be.
enum DecodedObject<Object: KubernetesObject>: Decodable, Sendable {
    case valid(Object)
    case invalid(ObjectName, String)

    private struct Named: Decodable {
        var metadata: ObjectMetadata
    }

    init(from decoder: any Decoder) throws {
        do {
            self = .valid(try Object(from: decoder))
        } catch {
            // Without a name there is nothing to be told of.
            self = .invalid(try Named(from: decoder).metadata.objectName, DecodingText.of(error))
        }
    }
}

/// The answer to a list: one page of objects.
struct ListPage<Object: KubernetesObject>: Decodable, Sendable {
    struct Metadata: Decodable, Sendable {
        var resourceVersion: String?
        var `continue`: String?
    }

    var metadata: Metadata
    /// Absent or null where there are none.
    var items: [DecodedObject<Object>]?
}

/// One line of a watch.
struct WatchLine<Object: KubernetesObject>: Decodable, Sendable {
    enum Event: Sendable {
        case present(DecodedObject<Object>)
        case deleted(ObjectName)
        case bookmark
        case error(APIStatus)
        /// A type that we do not know.
        case unknown(String)
    }

    var event: Event
    var resourceVersion: String?

    private enum CodingKeys: String, CodingKey {
        case type, object
    }

    private struct Versioned: Decodable {
        struct Metadata: Decodable {
            var resourceVersion: String?
            var name: String?
            var namespace: String?
        }

        var metadata: Metadata
    }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        let type = try values.decode(String.self, forKey: .type)
        if type == "ERROR" {
            event = .error(try values.decode(APIStatus.self, forKey: .object))
            return
        }
        let metadata = try values.decode(Versioned.self, forKey: .object).metadata
        resourceVersion = metadata.resourceVersion
        switch type {
        case "ADDED", "MODIFIED":
            event = .present(try values.decode(DecodedObject<Object>.self, forKey: .object))
        case "DELETED":
            event = .deleted(ObjectName(namespace: metadata.namespace ?? "", name: metadata.name ?? ""))
        case "BOOKMARK": event = .bookmark
        default: event = .unknown(type)
        }
    }
}

/// What a decoder found wrong, in one line.
enum DecodingText {
    static func of(_ error: any Error) -> String {
        guard let error = error as? DecodingError else { return "\(error)" }
        switch error {
        case .keyNotFound(let key, let context): return "\(path(context.codingPath + [key])) is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            return "\(path(context.codingPath)) has the wrong type"
        case .dataCorrupted(let context):
            return context.codingPath.isEmpty
                ? "it is not JSON" : "\(path(context.codingPath)): \(context.debugDescription)"
        @unknown default: return "it cannot be read"
        }
    }

    private static func path(_ keys: [any CodingKey]) -> String {
        // The list's or event's own keys are no part of the object.
        let own = keys.drop { $0.stringValue == "items" || $0.stringValue == "object" || $0.intValue != nil }
        return own.map { key in key.intValue.map { "[\($0)]" } ?? key.stringValue }.joined(separator: ".")
    }
}
