// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import epp_pd

@Suite struct GoDurationTests {
    @Test(arguments: [
        ("50ms", 0.05), ("1m30s", 90), ("2h", 7200), ("0", 0), ("1.5s", 1.5), ("100us", 1e-4), ("100µs", 1e-4), ("10ns", 1e-8),
    ]) func parses(text: String, seconds: Double) throws {
        let duration = try #require(GoDuration(argument: text))
        #expect(abs(duration.seconds - seconds) < 1e-12)
    }

    @Test(arguments: ["", "5", "ms", "-1s", "1x", "1s2", "1..2s", "9999999999h", "∞s", "١s"])
    func refuses(text: String) { #expect(GoDuration(argument: text) == nil) }

    @Test(arguments: ["50ms", "1.5s", "2m", "30s"])
    func printsWhatItParses(text: String) { #expect(GoDuration(argument: text)?.description == text) }
}
