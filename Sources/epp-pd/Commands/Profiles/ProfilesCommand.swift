// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser

/// `epp-pd profiles`: what is known of accelerators and models, and how to know more.
struct ProfilesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "profiles",
        abstract: "List, show, judge, extend and measure profiles.",
        subcommands: [
            ProfilesList.self, ProfilesShow.self, ProfilesAdd.self, ProfilesFit.self, ProfilesJudge.self,
        ],
        defaultSubcommand: ProfilesList.self
    )
}
