// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Logging

/// The process's log: standard error, verbosity as the reference picker counts it.
enum ServeLog {
    static func make(verbosity: Int) -> Logger {
        var log = Logger(label: "epp-pd") { StreamLogHandler.standardError(label: $0) }
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
