// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation

/// One JSON value on one line, keys sorted, for machines.
enum JSONLine {
    static func encode(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}
