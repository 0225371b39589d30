// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FoundationEssentials

/// A Lease of coordination.k8s.io/v1, as far as an election needs it.
package struct Lease: Sendable, Hashable {
    package var name: String
    package var namespace: String
    /// Empty for one that is yet to be created.
    package var resourceVersion: String
    /// Empty: nobody holds it.
    package var holder: String
    package var durationSeconds: Int
    /// RFC 3339 with microseconds.
    package var acquireTime: String?
    package var renewTime: String?
    package var transitions: Int

    package init(
        name: String,
        namespace: String,
        resourceVersion: String = "",
        holder: String = "",
        durationSeconds: Int = 0,
        acquireTime: String? = nil,
        renewTime: String? = nil,
        transitions: Int = 0
    ) {
        self.name = name
        self.namespace = namespace
        self.resourceVersion = resourceVersion
        self.holder = holder
        self.durationSeconds = durationSeconds
        self.acquireTime = acquireTime
        self.renewTime = renewTime
        self.transitions = transitions
    }

    // MARK: JSON

    private struct Document: Codable {
        struct Metadata: Codable {
            var name: String
            var namespace: String?
            var resourceVersion: String?
        }

        /// A new lease may have any of these unset.
        struct Specification: Codable {
            var holderIdentity: String?
            var leaseDurationSeconds: Int?
            var acquireTime: String?
            var renewTime: String?
            var leaseTransitions: Int?
        }

        var apiVersion: String?
        var kind: String?
        var metadata: Metadata
        var spec: Specification?
    }

    /// nil where the bytes are no Lease.
    init?(json: [UInt8]) {
        guard let document = try? JSONDecoder().decode(Document.self, from: Data(json)),
            document.kind == "Lease", let version = document.metadata.resourceVersion
        else { return nil }
        self.init(
            name: document.metadata.name,
            namespace: document.metadata.namespace ?? "",
            resourceVersion: version,
            holder: document.spec?.holderIdentity ?? "",
            durationSeconds: document.spec?.leaseDurationSeconds ?? 0,
            acquireTime: document.spec?.acquireTime,
            renewTime: document.spec?.renewTime,
            transitions: document.spec?.leaseTransitions ?? 0
        )
    }

    var json: [UInt8] {
        let document = Document(
            apiVersion: "coordination.k8s.io/v1",
            kind: "Lease",
            metadata: Document.Metadata(
                name: name,
                namespace: namespace,
                resourceVersion: resourceVersion.isEmpty ? nil : resourceVersion
            ),
            spec: Document.Specification(
                holderIdentity: holder.isEmpty ? nil : holder,
                leaseDurationSeconds: durationSeconds,
                acquireTime: acquireTime,
                renewTime: renewTime,
                leaseTransitions: transitions
            )
        )
        // Strings and numbers: there is nothing in it that could not be encoded.
        guard let data = try? JSONEncoder().encode(document) else { return [] }
        return Array(data)
    }
}
