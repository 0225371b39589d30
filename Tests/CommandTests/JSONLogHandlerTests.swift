// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation
import Logging
import Testing

@testable import epp_pd

@Suite struct JSONLogHandlerTests {
    @Test func aLineIsOneObject() throws {
        let line = JSONLogHandler.line(
            label: "epp-pd",
            level: .warning,
            message: "a \"bad\"\nfile",
            metadata: ["file": "f.yaml", "time": "mine", "list": ["a", "b"]],
            at: Date(timeIntervalSince1970: 1.25)
        )
        #expect(!line.contains("\n"))
        let fields = try JSONDecoder().decode([String: String].self, from: Data(line.utf8))
        #expect(fields["level"] == "warning")
        #expect(fields["message"] == "a \"bad\"\nfile")
        #expect(fields["logger"] == "epp-pd")
        #expect(fields["file"] == "f.yaml")
        #expect(fields["_time"] == "mine")
        #expect(fields["time"] == "1970-01-01T00:00:01.250Z")
        #expect(fields["list"] == "[\"a\", \"b\"]")
    }
}
