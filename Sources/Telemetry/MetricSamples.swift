// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Autoscaling
package import Router

/// What other rooms count by themselves; read when the page is made.
package struct MetricSamples: Sendable, Hashable {
    package struct Reason: Sendable, Hashable {
        package var name: String
        package var count: Int

        package init(_ name: String, _ count: Int) {
            self.name = name
            self.count = count
        }
    }

    /// How a watch of the Kubernetes API stands.
    package struct Watch: Sendable, Hashable {
        package var kind: String
        package var standing: String
        package var failures: Int
        package var lists: Int
        package var events: Int
        package var invalid: Int

        package init(kind: String, standing: String, failures: Int, lists: Int, events: Int, invalid: Int) {
            self.kind = kind
            self.standing = standing
            self.failures = failures
            self.lists = lists
            self.events = events
            self.invalid = invalid
        }
    }

    /// Empty without a cluster.
    package var watches: [Watch] = []
    /// InferencePools by name: 1 for those that do not exist or cannot be read, else 0.
    package var poolTroubles: [Reason] = []
    package var podsWithoutProfile: Int?
    package var requestsWaiting = 0
    package var requestsSetAside = 0
    /// Endpoints that are left out for what their answers or scrapes have shown.
    package var pausedEndpoints: Set<EndpointID> = []
    package var localPrefillsForLack: UInt64 = 0
    package var queueOverflows: UInt64 = 0
    /// By pool: 1 while its requests may wait in the queue.
    package var lateBinding: [Reason] = []
    /// The dials as they are now.
    package var classes: [PriorityClass] = []
    package var scrapes = 0
    package var scrapeErrors: [Reason] = []
    package var modelLists = 0
    package var modelListFailures = 0
    package var snapshots = 0
    package var reloads = 0
    package var failedReloads = 0
    package var fileIsBad = false
    package var indexBytes = 0
    package var indexBlocks = 0
    package var index = PrefixIndexSamples()
    /// By HTTP status.
    package var immediateAnswers: [Reason] = []
    package var servedElsewhere = 0
    package var protocolViolations = 0
    package var bodyBytes = 0
    package var bodiesRefused = 0
    package var decisionLogDropped = 0
    package var processorSeconds = 0.0
    package var residentBytes = 0
    package var isReady = false
    package var isLeader = true
    package var version = ""
    package var scaling = ScalingReport()

    package init() {}
}
