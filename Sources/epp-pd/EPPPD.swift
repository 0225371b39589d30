// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser

@main
struct EPPPD: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "epp-pd",
        abstract: "Endpoint picker for mixed GPU fleets."
    )
}
