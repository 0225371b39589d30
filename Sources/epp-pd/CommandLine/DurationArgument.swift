// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel

/// A duration on the command line, in Go's form, zero or longer.
struct DurationArgument: Sendable, Hashable, ExpressibleByArgument {
    var value: Seconds
    private var text: String

    /// For defaults: `text` must be a duration, which a test checks for each default by printing the help.
    init(_ text: String) {
        self.text = text
        self.value = GoDuration.parse(text) ?? .zero
    }

    init?(argument: String) {
        guard let value = GoDuration.parse(argument), value >= .zero else { return nil }
        self.text = argument
        self.value = value
    }

    var defaultValueDescription: String { text }
}
