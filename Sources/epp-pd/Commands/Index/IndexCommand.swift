// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser

/// `epp-pd index`: the prefix index on files.
struct IndexCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "index",
        abstract: "Replay captured KV events, and look into snapshots of the prefix index.",
        subcommands: [IndexReplay.self, IndexStats.self]
    )
}
