// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Router

/// What a pod's role label asks of it: the values of llm-d's `llm-d.ai/role`.
package enum PodRole: Sendable, Hashable {
    case endpoint(Role)
    /// Takes no part in prefill or decode: listed, not used.
    case encodeOnly
    case unknown(String)

    package static let label = "llm-d.ai/role"

    package init(label: String?) {
        switch label {
        // An unlabelled pod does everything.
        case nil, "", "both", "prefill-decode", "encode-prefill-decode": self = .endpoint(.both)
        case "prefill", "encode-prefill": self = .endpoint(.prefill)
        case "decode", "encode-decode": self = .endpoint(.decode)
        case "encode": self = .encodeOnly
        case let other?: self = .unknown(String(other.prefix(63)))
        }
    }
}
