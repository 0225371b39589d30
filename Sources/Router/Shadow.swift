// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Where another picker sent a request, as `ip:port`.
package struct Served: Sendable, Hashable, Codable {
    package var destination: String
    package var prefiller: String?

    package init(destination: String, prefiller: String? = nil) {
        self.destination = destination
        self.prefiller = prefiller
    }
}

/// Marks a request that another picker places and this one only watches.
package struct Shadow: Sendable, Hashable, Codable {
    /// nil: not known when the request came.
    package var served: Served?

    package init(served: Served? = nil) { self.served = served }
}

/// What became of a watched request, beside what this picker would have chosen.
package struct ShadowRecord: Sendable, Hashable, Codable {
    /// nil where nobody said.
    package var served: Served?
    /// The same placement as this picker prices it; nil where it is none of its candidates.
    package var candidate: Candidate?

    package init(served: Served?, candidate: Candidate?) {
        self.served = served
        self.candidate = candidate
    }
}
