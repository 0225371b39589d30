// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What the servers' own pages have said, by the endpoint's name.
package struct LearnedFacts: Sendable, Hashable {
    package struct Server: Sendable, Hashable {
        /// From /v1/models, in its order.
        package var models: [String]
        /// Tokens per KV block, from the metrics page.
        package var blockSize: Int?

        package init(models: [String] = [], blockSize: Int? = nil) {
            self.models = models
            self.blockSize = blockSize
        }
    }

    package var servers: [String: Server]

    package init(servers: [String: Server] = [:]) { self.servers = servers }
}
