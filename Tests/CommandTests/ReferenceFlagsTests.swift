// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import epp_pd

@Suite struct ReferenceFlagsTests {
    @Test func bareBooleansBecomeTrue() {
        let flags = ReferenceFlags(["serve", "--secure-serving", "--health-checking=false", "--grpc-port", "1"])
        #expect(flags.arguments == ["serve", "--secure-serving=true", "--health-checking=false", "--grpc-port", "1"])
        #expect(flags.ignored.isEmpty)
    }

    @Test func knownFlagsWithoutEffectAreDroppedAndNamedOnce() {
        let flags = ReferenceFlags(["--tracing=false", "--zap-encoder", "json", "--tracing", "--metrics-port", "9090"])
        #expect(flags.arguments == ["--metrics-port", "9090"])
        #expect(flags.ignored == ["tracing", "zap-encoder"])
    }

    @Test func oneDashIsAsGoodAsTwo() {
        let flags = ReferenceFlags([
            "-v=3", "-grpc-port", "9002", "-secure-serving", "-tracing", "-h", "--x", "-", "-1",
        ])
        #expect(
            flags.arguments == ["--v=3", "--grpc-port", "9002", "--secure-serving=true", "-h", "--x", "-", "-1"]
        )
        #expect(flags.ignored == ["tracing"])
    }

    @Test func anUnknownFlagIsLeftForTheParserToRefuse() {
        #expect(ReferenceFlags(["--no-such-flag"]).arguments == ["--no-such-flag"])
    }
}
