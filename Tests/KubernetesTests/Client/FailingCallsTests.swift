// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CCurl
import CostModel
import Foundation
import Locks
import Logging
import Testing

@testable import Kubernetes

/// Fail the n-th call, for every n, until a run has no failure left (after SQLite's anomaly tests).
@Suite("Failing calls of the API client")
struct FailingCallsTests {
    /// A file with a token, and what names it and an authority.
    private static func configuration(_ port: UInt16) throws -> KubernetesConfiguration {
        let file = FileManager.default.temporaryDirectory.appending(path: "epp-pd-token-\(UUID().uuidString)")
        try "secret\n".write(to: file, atomically: true, encoding: .utf8)
        return KubernetesConfiguration(
            server: "http://127.0.0.1:\(port)",
            tlsServerName: "127.0.0.1",
            identity: KubernetesConfiguration.Identity(token: .file(file.path()))
        )
    }

    private static func remove(_ configuration: KubernetesConfiguration) {
        guard case .file(let path) = configuration.identity.token else { return }
        try? FileManager.default.removeItem(atPath: path)
    }

    /// Follows a cluster to which a second pod comes.
    private struct Run {
        var told: [[String]] = []
        var trouble: String?
        var handlesLeft = 0
        var tokens: Set<String> = []
        var sent = 0
    }

    private static func follow(_ calls: FailingCalls, cut: Int = .max) throws -> Run {
        let server = try SmallAPIServer(pods: ["a"], cut: cut)
        defer { server.stop() }
        let configuration = try configuration(server.port)
        defer { remove(configuration) }
        let told = Guarded<[[String]]>([])
        var run = Run()
        do {
            var settings = WatchSettings()
            settings.firstRetry = Seconds(0.002)
            settings.longestRetry = Seconds(0.01)
            settings.steadyAfter = Seconds(0.005)
            let service = ClusterService(
                client: KubernetesClient(configuration, calls: calls),
                selection: ClusterSelection(pods: .selector("app=a", ports: [8000]), namespace: "default"),
                settings: settings,
                seed: 5,
                log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
                handler: { state in told.withLock { $0.append(state.pools[0].pods.map(\.metadata.name)) } }
            )
            try service.start()
            wait { told.withLock { $0.last } == ["a"] }
            server.add("b")
            wait { told.withLock { $0.last } == ["a", "b"] && service.standing.trouble == nil }
            run.trouble = service.standing.trouble
            service.stop()
        }
        run.told = told.withLock { $0 }
        run.handlesLeft = calls.handles
        run.tokens = Set(server.tokens)
        run.sent = server.sent
        return run
    }

    /// At most ten seconds: test machines are busy ones.
    private static func wait(_ condition: () -> Bool) {
        for _ in 0..<5000 {
            if condition() { return }
            usleep(2000)
        }
    }

    private static func check(_ run: Run, _ what: String) {
        // Nothing that was known is lost on the way, and nothing is made up.
        var states = run.told
        states = states.enumerated().filter { $0.offset == 0 || states[$0.offset - 1] != $0.element }.map(\.element)
        #expect(states == [["a"], ["a", "b"]], "\(what)")
        #expect(run.trouble == nil, "\(what)")
        #expect(run.handlesLeft == 0, "\(what)")
        #expect(run.tokens == ["Bearer secret"], "\(what)")
    }

    @Test("A cluster is followed whatever call fails", arguments: FailingCalls.Fault.allCases)
    func watching(fault: FailingCalls.Fault) throws {
        // Each of a dozen requests sets some twenty options, the same ones: beyond the first requests, samples do.
        let exhaustive = 60
        var number = 1
        while number < 2000 {
            let calls = FailingCalls(fault, callNumber: number)
            Self.check(try Self.follow(calls), "\(fault) at \(number)")
            if !calls.hasFailed { return }
            number += number < exhaustive ? 1 : 7
        }
        Issue.record("\(fault): still failing after \(number) calls")
    }

    @Test("A cluster is followed wherever a connection is reset")
    func resets() throws {
        let whole = try Self.follow(FailingCalls(nil)).sent
        for cut in stride(from: 0, to: whole, by: 19) {
            Self.check(try Self.follow(FailingCalls(nil), cut: cut), "reset after \(cut) bytes")
        }
    }

    @Test("A single request fails with its reason, and the next one succeeds", arguments: FailingCalls.Fault.allCases)
    func requests(fault: FailingCalls.Fault) throws {
        let server = try SmallAPIServer(pods: ["a"])
        defer { server.stop() }
        let configuration = try Self.configuration(server.port)
        defer { Self.remove(configuration) }
        let request = KubernetesRequest(method: "PUT", path: "/api/v1/nodes", query: [.init("a", "b")])
        for number in 1...100 {
            let calls = FailingCalls(fault, callNumber: number)
            do {
                let client = KubernetesClient(configuration, calls: calls)
                let first = Result { () throws(KubernetesFailure) in try client.send(request).status }
                guard calls.hasFailed else {
                    #expect(first == .success(200))
                    return
                }
                switch fault {
                case .perform: #expect(first == .failure(.connectionLost))
                case .file, .emptyFile:
                    guard case .failure(.credentials) = first else {
                        Issue.record("\(fault): \(first)")
                        break
                    }
                default: #expect(first == .failure(.client), "\(fault) at \(number)")
                }
                #expect(try client.send(request).status == 200, "\(fault) at \(number)")
            }
            #expect(calls.handles == 0, "\(fault) at \(number)")
        }
        Issue.record("\(fault): still failing after 100 calls")
    }

    @Test("A cluster's own authority replaces the system's")
    func systemAuthorities() throws {
        let calls = FailingCalls(nil)
        let server = try SmallAPIServer(pods: [])
        defer { server.stop() }
        var configuration = KubernetesConfiguration(server: "http://127.0.0.1:\(server.port)")
        _ = try KubernetesClient(configuration, calls: calls).send(KubernetesRequest(path: "/api/v1/nodes"))
        #expect(calls.clearedOptions.isEmpty)
        configuration.authority = .text("-----BEGIN CERTIFICATE-----")
        _ = try KubernetesClient(configuration, calls: calls).send(KubernetesRequest(path: "/api/v1/nodes"))
        #expect(calls.clearedOptions == [CURLOPT_CAPATH.rawValue])
        #expect(calls.options.contains(CURLOPT_CAINFO_BLOB.rawValue))
    }
}
