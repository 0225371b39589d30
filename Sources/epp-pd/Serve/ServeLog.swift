// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Logging

/// The process's log: standard error, verbosity as the reference picker counts it.
enum ServeLog {
    static func make(verbosity: Int, format: LogFormat) -> Logger {
        var log = Logger(label: "epp-pd") { label -> any LogHandler in
            switch format {
            case .text: StreamLogHandler.standardError(label: label)
            case .json: JSONLogHandler(label: label)
            }
        }
        log.logLevel =
            switch verbosity {
            case ..<1: .warning
            case 1...3: .info
            case 4: .debug
            default: .trace
            }
        return log
    }
}
