// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation

/// The two streams of a command: results on standard output, everything else on standard error.
enum Console {
    static func error(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }
}
