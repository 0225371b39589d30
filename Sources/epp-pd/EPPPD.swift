// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Foundation

/// The command line: one subcommand per file in Commands.
@main
struct EPPPD: ParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "epp-pd",
        abstract: "Endpoint picker for mixed GPU fleets: prefill and decode pods by predicted seconds and dollars.",
        discussion: "Exit codes: 0 all went well, 1 the thing failed, 2 wrong usage or configuration.",
        subcommands: [
            Serve.self, Simulate.self, Plan.self, MockServerCommand.self, Explain.self, Validate.self,
            FleetCommand.self, PredictCommand.self, CalibrateCommand.self, ProfilesCommand.self, IndexCommand.self,
            Version.self,
        ],
        defaultSubcommand: Serve.self
    )

    /// Exit code of wrong usage and wrong configuration; the parser's own would be 64 (EX_USAGE).
    private static let wrongUsage: Int32 = 2

    static func main() {
        let flags = ReferenceFlags(Array(CommandLine.arguments.dropFirst()))
        if !flags.ignored.isEmpty {
            let names = flags.ignored.map { "--\($0)" }.joined(separator: ", ")
            Console.error("without effect here, and ignored: \(names)")
        }
        do {
            var command = try parseAsRoot(flags.arguments)
            try command.run()
        } catch {
            leave(error)
        }
    }

    private static func leave(_ error: any Error) -> Never {
        let code = exitCode(for: error)
        let message = fullMessage(for: error)
        if !message.isEmpty {
            if code.isSuccess { print(message) } else { Console.error(message) }
        }
        Foundation.exit(code == .validationFailure ? wrongUsage : code.rawValue)
    }
}
