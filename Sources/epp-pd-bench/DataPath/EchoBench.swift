// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Foundation
import Gateway
import Transport

/// `epp-pd-bench echo`: the same transport as `epp-pd serve`, and a picker that does nothing.
///
/// It names one endpoint, sends bodies back as they came, parses no JSON, knows no prefix and keeps no account. What
/// epp-pd costs above it is what decisions cost.
struct EchoBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "echo",
        abstract: "Serve external processing with a picker that does nothing, to compare with."
    )

    @Option(help: "Port of the external processing service, in cleartext.") var port: UInt16
    @Option(help: "The endpoint that is named, as ip:port.") var destination: String
    @Option(help: "Data-plane threads.") var loops = 1
    @Flag(help: "TLS with a self-signed certificate.") var tls = false

    func validate() throws {
        guard (1...64).contains(loops) else { throw ValidationError("loops 1…64") }
    }

    func run() throws {
        MemoryReuse.prepare()
        let threads = try EventLoop.start(count: loops)
        let server = GRPCServer(
            ServerOptions(address: "127.0.0.1", port: port),
            loops: threads,
            certificates: tls ? try TLSCertificates(TLSOptions()) : nil
        ) { [destination] _ in
            ServiceList([
                EchoService(destination: destination),
                HealthService([("envoy.service.ext_proc.v3.ExternalProcessor", true)]),
            ])
        }
        try server.start()
        while true { sleep(3_600) }
    }
}
