// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One metric as it is published: the name, what it means, and the labels of its series.
package struct MetricFamily: Sendable, Hashable {
    package enum Kind: String, Sendable, Hashable {
        case counter, gauge, histogram
    }

    package var name: String
    package var kind: Kind
    /// One sentence, without a line break.
    package var help: String
    package var labels: [String]

    package init(_ name: String, _ kind: Kind, _ help: String, labels: [String] = []) {
        self.name = name
        self.kind = kind
        self.help = help
        self.labels = labels
    }
}
