// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import Foundation

/// `epp-pd validate`: reads files as `serve` would, and says everything that is wrong with them.
struct Validate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check a configuration, a fleet file and profiles: every error with file, line, key path.",
        discussion: """
            Errors go to standard error, one a line, as file:line:column: key path: what is wrong and what is allowed. \
            Warnings name what would be estimated or could not serve. Exit code: 0 without errors, 2 with.

            EXAMPLES
              epp-pd validate --fleet fleet.yaml
              epp-pd validate --fleet fleet.yaml --config config.yaml --profiles my-profiles --json
            """
    )

    @Option(help: "Fleet file (docs/fleet-file.md).")
    var fleet: String?
    @Option(help: "Configuration file (docs/configuration.md).")
    var config: String?
    @Option(help: "Folder of profiles. Default: the ones that come with epp-pd.")
    var profiles: String?
    @Flag(help: "The fleet is for the simulator: addresses and ports may be absent.")
    var simulated = false
    @Flag(help: "Print one JSON object instead of text.")
    var json = false

    func run() throws {
        let validation = Validation.run(fleet: fleet, config: config, profiles: profiles, isSimulated: simulated)
        if json {
            print(try JSONLine.encode(validation))
        } else {
            for warning in validation.warnings { Console.error("warning: \(warning)") }
            for error in validation.errors { Console.error(error.description) }
            for checked in validation.checked { print(checked) }
        }
        if !validation.errors.isEmpty { throw ExitCode(2) }
    }
}
