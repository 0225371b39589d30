// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Autoscaling
import CostModel
import Gateway
import Router
import Synchronization
import Transport

/// The loops, and the gRPC servers that run on them: external processing with health, and health alone in cleartext.
final class DataPlane: Sendable {
    /// Names under which gateways and probes ask for our health.
    private static let healthNames = ["", "envoy.service.ext_proc.v3.ExternalProcessor", "liveness", "readiness"]

    let loops: [EventLoop]
    let processing: GRPCServer
    let health: GRPCServer
    /// nil: off.
    let externalMetrics: GRPCServer?
    private let healthServices: LoopHealth
    /// Those who keep a stream to hear of changes shall leave.
    private let isEnding = Flag()

    /// - Throws: `SystemError` where the kernel gives no thread or descriptor.
    init(
        _ options: ServeOptions,
        host: RouterHost,
        exchange: ExchangeOptions,
        budget: BodyBudget,
        counters: ExchangeCounters,
        tokens: PromptTokens?,
        certificates: TLSCertificates?,
        certificatesChanged: @escaping @Sendable (TLSReload) -> Void,
        scaler: ScalerSource?,
        externalMetrics: ExternalMetrics?
    ) throws {
        let isEnding = isEnding
        MemoryReuse.prepare()
        loops = try EventLoop.start(count: options.loops ?? Self.defaultLoops)
        let services = LoopHealth()
        healthServices = services
        var http2 = HTTP2Limits()
        http2.maxMessageBytes = options.maxMessageBytes
        let offersHealth = options.healthChecking
        let timeout = Self.limit(options.requestTimeout.value)
        let uploadTimeout = Self.limit(options.uploadTimeout.value)
        processing = GRPCServer(
            ServerOptions(address: options.bindAddress, port: options.grpcPort, http2: http2, budget: budget),
            loops: loops,
            certificates: certificates,
            certificatesChanged: certificatesChanged
        ) { loop in
            let picker = host.picker(on: loop, timeout: timeout, uploadTimeout: uploadTimeout, tokens: tokens)
            let service = ExtProcService(
                picker: picker,
                options: exchange,
                budget: budget,
                observer: counters,
                makeRequestID: { picker.nextRequestID() }
            )
            var all: [any GRPCService] = [service]
            if offersHealth { all.append(services.make(on: loop, Self.healthNames)) }
            if let scaler { all.append(Self.scalerService(scaler, on: loop, isEnding)) }
            return ServiceList(all)
        }
        health = GRPCServer(
            ServerOptions(address: options.bindAddress, port: options.grpcHealthPort),
            loops: [loops[0]]
        ) { loop in services.make(on: loop, Self.healthNames) }
        let firstLoop = loops[0]
        self.externalMetrics = externalMetrics.map { external in
            GRPCServer(
                ServerOptions(address: options.bindAddress, port: options.externalMetricsPort),
                loops: [firstLoop],
                certificates: external.certificates,
                certificatesChanged: certificatesChanged
            ) { _ in ExternalMetricsService(namespace: external.namespace, external.report) }
        }
    }

    /// What the external metrics API is served with.
    struct ExternalMetrics {
        var certificates: TLSCertificates
        /// Of the pods, where they come from a cluster.
        var namespace: String?
        var report: @Sendable () -> ScalingReport
    }

    /// Zero stands for no limit.
    private static func limit(_ span: Seconds) -> Duration? { span > .zero ? .seconds(span.rawValue) : nil }

    /// KEDA's scaler on one loop, whose streams hear of changes within a second.
    private static func scalerService(
        _ source: ScalerSource,
        on loop: EventLoop,
        _ isEnding: Flag
    ) -> ExternalScalerService {
        let service = ExternalScalerService(source)
        func refreshLater() {
            loop.schedule(after: .seconds(1)) { [weak service] in
                guard let service else { return }
                if isEnding.isSet { service.endStreams() } else { service.refresh() }
                refreshLater()
            }
        }
        refreshLater()
        return service
    }

    /// Set once, by any thread.
    private final class Flag: Sendable {
        private let value = Atomic(false)

        var isSet: Bool { value.load(ordering: .acquiring) }
        func set() { value.store(true, ordering: .releasing) }
    }

    /// One loop carries thousands of requests per second; Envoy itself needs the other cores.
    private static var defaultLoops: Int { min(max(Processors.online / 2, 1), 4) }

    /// - Returns: the ports that were bound.
    func start() throws -> (processing: UInt16, health: UInt16) {
        try externalMetrics?.start()
        return (try processing.start(), try health.start())
    }

    func setReady(_ isReady: Bool) { healthServices.set(isReady, Self.healthNames) }

    /// Stops taking requests and lets the open ones end.
    ///
    /// Health checks of clients come every few seconds: for that long new connections are still served, even when no
    /// request is open.
    func drain(timeout: Seconds, done: @escaping @Sendable () -> Void) {
        let grace = min(timeout, Self.noticeTime)
        processing.drain(grace: .seconds(grace.rawValue), timeout: .seconds(timeout.rawValue), done: done)
        // Those who watch have had the same time to hear that we are not ready.
        loops[0].post { [self] in
            loops[0].schedule(after: .seconds(grace.rawValue)) { [self] in
                healthServices.endWatches()
                isEnding.set()
            }
        }
    }

    /// How long clients are given to notice that we leave.
    private static let noticeTime = Seconds(5)

    func stop() {
        processing.close()
        health.close()
        externalMetrics?.close()
        for loop in loops { loop.stop() }
    }
}
