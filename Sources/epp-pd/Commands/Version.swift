// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser

/// `epp-pd version`
struct Version: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Print the version.")

    func run() { print("epp-pd \(EPPPD.version)") }
}
