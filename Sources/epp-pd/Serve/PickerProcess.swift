// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Autoscaling
import Configuration
import CostModel
import Dispatch
import Fleet
import Foundation
import Gateway
import Kubernetes
import Logging
import PrefixIndex
import Router
import Synchronization
import Telemetry
import Transport

/// The composition root of `serve`: makes the parts, connects them, and ends them in order.
final class PickerProcess: Sendable {
    private let options: ServeOptions
    private let log: Logger
    private let host: RouterHost
    private let fleet: FleetService
    private let dataPlane: DataPlane
    private let decisionLog: DecisionLog?
    private let readiness: Readiness
    private let admin: AdminServer
    private let housekeeping: Housekeeping
    private let places: KVEventPlaces
    private let indexFile: PrefixIndexFile?
    private let events: KVEventService
    private let discovery: KVEventDiscovery
    private let tokens: PromptTokens?
    private let scaling: ScalingService
    /// nil: this replica serves in any case.
    private let leadership: Leadership?
    private let seed: UInt64
    private let cluster: ClusterService?
    private let clusterFleet: ClusterFleet
    /// The process was told to end.
    private let isEnding = Atomic(false)

    /// Reads all configuration and makes the parts; nothing runs yet.
    init(_ options: ServeOptions) throws {
        self.options = options
        log = ServeLog.make(verbosity: options.verbosity, format: options.logFormat)
        let catalog = try Self.catalog(options)
        seed = options.seed ?? .random(in: .min ... .max)
        let configuration = try options.config.map(Self.configuration) ?? PickerConfiguration()
        let endpoints = try Self.endpoints(options, configuration)
        let clock = ModelClock(scale: options.timeScale)
        let epoch = Seconds(Date().timeIntervalSince1970 - clock.now.rawValue)
        let readiness = Readiness()
        self.readiness = readiness
        decisionLog = try options.decisionLog.map { try DecisionLog(path: $0) }
        let metrics = Metrics()
        let observer = RequestObserver(metrics: metrics, decisionLog: decisionLog)
        let indexFile = options.prefixIndexFile.map { [log] path in
            PrefixIndexFile(path: path, stores: configuration.kvCache.stores.map(\.store.name), log: log)
        }
        self.indexFile = indexFile
        // Half of the memory for what routing teaches, half for what the engines say.
        let half = (options.prefixIndexMib << 20) / 2
        let unit = configuration.kvCache.blockTokens
        let kept =
            try indexFile?.load(budget: half, unit: unit)
            ?? PrefixIndexFile.Kept(index: EventPrefixIndex(budget: half, unit: unit))
        let prefixes = try PrefixKnowledge(bytes: half, told: kept.index)
        let events = KVEventService(index: kept.index, resuming: kept.positions)
        let places = KVEventPlaces(service: events, stores: Self.stores(configuration))
        self.places = places
        self.events = events
        discovery = KVEventDiscovery(places: places)
        let tokens = Self.tokens(configuration, unit: prefixes.unit, places)
        self.tokens = tokens
        let clusterFleet = ClusterFleet(configuration: configuration.pools, clock: clock)
        self.clusterFleet = clusterFleet
        let host = RouterHost(
            router: Self.router(options, configuration, catalog, prefixes, epoch: epoch, seed: seed),
            prefixes: prefixes,
            priorities: configuration.objectives,
            tellsDecisions: options.decisionHeader,
            destinationPool: options.cluster.destinationPool,
            clock: clock,
            podlessWait: options.noEndpointWait.value,
            observer: observer,
            pairsReportPrefill: configuration.kvCache.pairsReportPrefill,
            engineRestarted: { events.restarted(holder: $0.rawValue) }
        )
        self.host = host
        let scaling = ScalingService(
            FleetScaler.Settings(
                podStartTime: options.autoscalingPodStartTime.value,
                scaleDownWindow: options.autoscalingScaleDownWindow.value
            ),
            configuration,
            host: host,
            holdsAlone: { [isElected = options.replicas.haEnableLeaderElection] in isElected }
        )
        self.scaling = scaling
        housekeeping = Housekeeping(
            host: host,
            prefixes: prefixes,
            calibrationFile: options.calibrationFile,
            log: log
        )
        let unknown = ProfileWarnings(log: log)
        fleet = FleetService(
            fleet: endpoints,
            options: Self.fleetOptions(options, configuration, known: kept.endpoints),
            clock: clock,
            log: log,
            resolve: { description, id in
                places.describe(description, as: id)
                unknown.check(description, catalog)
                return catalog.endpoint(description, id: id)
            },
            handlers: FleetService.Handlers(
                snapshot: { snapshot in
                    places.fleetChanged(snapshot)
                    tokens?.fleetChanged(snapshot)
                    host.fleetChanged(snapshot)
                    clusterFleet.fleetChanged(snapshot)
                },
                events: { events in
                    scaling.observed(events)
                    host.fleetEvents(events)
                }
            )
        )
        let takeRoutes: @Sendable (RoutePools) -> Void = { host.take($0) }
        clusterFleet.attach(
            replace: { [fleet] in fleet.replace($0) },
            rules: { host.take($0) },
            // A pool that the command line names holds for every route.
            routes: options.cluster.routePool == nil ? takeRoutes : nil
        )
        cluster = try Self.cluster(options, log) { clusterFleet.clusterChanged($0) }
        clusterFleet.whenFirstFound { [readiness, log] in
            readiness.enter(.ready)
            log.info("the cluster's pods are known")
        }
        let counters = ExchangeCounters(log: log)
        let bodies = BodyBudget(limit: options.bodyMemoryMib << 20)
        dataPlane = try DataPlane(
            options,
            host: host,
            exchange: Self.exchangeOptions(options, keepsBodies: tokens != nil, unit: prefixes.unit),
            budget: bodies,
            counters: counters,
            tokens: tokens,
            certificates: try Self.certificates(options),
            certificatesChanged: { [log] in Self.report($0, log) },
            scaler: options.externalScaler ? ScalerSource { scaling.report } : nil,
            externalMetrics: try Self.externalMetrics(options, namespace: cluster?.namespace) { scaling.report }
        )
        let client = try Self.kubernetesClient(options)
        leadership = Self.leadership(options, client, log) { [readiness, dataPlane] isLeader in
            readiness.follow(!isLeader)
            dataPlane.setReady(readiness.isReady)
        }
        if leadership != nil { readiness.follow(true) }
        admin = try AdminServer(
            address: options.bindAddress,
            port: options.metricsPort,
            pages: AdminPages(
                host: host,
                network: configuration.network,
                metrics: metrics,
                readiness: readiness,
                fleet: fleet,
                cluster: cluster,
                clusterFleet: clusterFleet,
                prefixes: prefixes,
                counters: counters,
                bodies: bodies,
                decisionLog: decisionLog,
                events: events,
                scaling: scaling
            ).all,
            access: Self.guardsMetrics(options) ? client.map { MetricsAccess(client: $0) } : nil
        )
    }

    /// Serves until the process is told to end; returns when it has drained.
    func run(until signals: Signals) throws {
        let ended = DispatchSemaphore(value: 0)
        try signals.start { [self] in
            // Nothing is served and nothing is learned yet; a container's first process would not end by itself.
            guard readiness.current != .starting else { exit(0) }
            drain { ended.signal() }
        }
        // A decision log or a log whose reader left is an error of that write, not the end of the process.
        Foundation.signal(SIGPIPE, SIG_IGN)
        housekeeping.start()
        scaling.start()
        try events.start()
        indexFile?.start(events, places)
        tokens?.start()
        try fleet.start()
        discovery.start()
        try admin.start()
        let ports = try dataPlane.start()
        readiness.onChange { [dataPlane] isReady in dataPlane.setReady(isReady) }
        if let cluster { try cluster.start() } else { readiness.enter(.ready) }
        leadership?.start()
        log.info(
            "serving",
            metadata: [
                "grpc-port": "\(ports.processing)", "grpc-health-port": "\(ports.health)",
                "tls": "\(options.secureServing)", "time-scale": "\(options.timeScale)", "seed": "\(seed)",
            ]
        )
        ended.wait()
        fleet.stop()
        discovery.stop()
        tokens?.stop()
        events.stop()
        dataPlane.stop()
        admin.stop()
        housekeeping.save()
        indexFile?.save(events, places)
        decisionLog?.flush()
        log.info("ended")
    }

    private func drain(_ done: @escaping @Sendable () -> Void) {
        guard !isEnding.exchange(true, ordering: .acquiringAndReleasing) else { return }
        let whole = options.drainTimeout.value
        guard let leadership, !readiness.follows else { return drain(whole, done) }
        // A leader gives the lease up at once, and goes on until another one has it: nobody else is Ready before.
        let began = MonotonicTime.current
        leadership.handOver(within: min(Self.longestHandOver, whole * 0.5)) { [self] in
            let spent = Double(MonotonicTime.current.nanoseconds &- began.nanoseconds) * 1e-9
            drain(max(whole - Seconds(spent), .zero), done)
        }
    }

    /// A new replica of a roll-out starts within this, where its image is there.
    private static let longestHandOver = Seconds(10)

    private func drain(_ timeout: Seconds, _ done: @escaping @Sendable () -> Void) {
        readiness.enter(.draining)
        // Where this replica follows there is nothing to give up, but it must not take the lease any more.
        leadership?.handOver(within: .zero) {}
        log.info("draining", metadata: ["timeout": "\(timeout.rawValue)s"])
        dataPlane.drain(timeout: timeout, done: done)
    }
}

// MARK: - Configuration

extension PickerProcess {
    /// In a cluster who reads metrics is asked of it, as clusters expect; a fleet file needs no cluster.
    private static func guardsMetrics(_ options: ServeOptions) -> Bool {
        options.replicas.metricsEndpointAuth ?? options.cluster.isGiven
    }

    /// nil where nothing is asked of a cluster but its pods.
    private static func kubernetesClient(_ options: ServeOptions) throws -> KubernetesClient? {
        guard options.replicas.haEnableLeaderElection || guardsMetrics(options) else { return nil }
        return try options.cluster.client()
    }

    private static func leadership(
        _ options: ServeOptions,
        _ client: KubernetesClient?,
        _ log: Logger,
        _ changed: @escaping @Sendable (Bool) -> Void
    ) -> Leadership? {
        guard options.replicas.haEnableLeaderElection, let client else { return nil }
        let namespace = options.replicas.leaderElectionNamespace ?? client.configuration.namespace
        let fleet = options.cluster.poolName.first ?? "fleet"
        return Leadership(
            client: client,
            name: options.replicas.leaderElectionName ?? "epp-\(namespace)-\(fleet).epp-pd.io",
            namespace: namespace,
            log: log,
            changed: changed
        )
    }

    private static func catalog(_ options: ServeOptions) throws -> ProfileCatalog {
        guard let folder = ProfileFolder.find(flag: options.profiles) else {
            Console.error("no profiles found: name their folder with --profiles or EPP_PD_PROFILES")
            throw ExitCode(2)
        }
        do {
            return try ProfileLoader.load(folder: folder)
        } catch {
            Console.error(error.description)
            throw ExitCode(2)
        }
    }

    private static func endpoints(
        _ options: ServeOptions,
        _ configuration: PickerConfiguration
    ) throws -> [EndpointDescription] {
        do {
            guard let file = options.fleet else { return [] }
            return try FleetFile.read(path: file, options: FleetFile.Options(engines: configuration.engines))
        } catch {
            Console.error(error.description)
            throw ExitCode(2)
        }
    }

    /// What follows the cluster, where pods come from one.
    private static func cluster(
        _ options: ServeOptions,
        _ log: Logger,
        _ handler: @escaping ClusterService.Handler
    ) throws -> ClusterService? {
        guard options.cluster.isGiven else { return nil }
        let client = try options.cluster.client()
        return ClusterService(
            client: client,
            selection: options.cluster.selection(client),
            settings: options.cluster.settings,
            log: log,
            handler: handler
        )
    }

    private static func configuration(_ path: String) throws -> PickerConfiguration {
        do {
            return try PickerConfiguration.read(path: path)
        } catch {
            Console.error(error.description)
            throw ExitCode(2)
        }
    }

    private static func router(
        _ options: ServeOptions,
        _ configuration: PickerConfiguration,
        _ catalog: ProfileCatalog,
        _ prefixes: PrefixKnowledge,
        epoch: Seconds,
        seed: UInt64
    ) -> Router {
        var queue = configuration.queue
        // Who waits already waits no longer for a first pod than who comes.
        queue.podlessHold = options.noEndpointWait.value
        return Router(
            options: RouterOptions(
                // Who sees nothing of answers does not know when a pod is free.
                binding: options.binding ?? (options.skim ? .early : configuration.binding ?? .late),
                // What the command line says holds for every pool.
                bindingByPool: options.binding == nil && !options.skim ? configuration.bindingByPool : [:],
                enginePriority: configuration.enginePriority,
                epoch: epoch,
                mode: options.mode ?? configuration.mode ?? .latency,
                classes: options.mode == nil ? configuration.priorities : [],
                queue: queue,
                connectors: catalog.connectors,
                network: configuration.network,
                stores: configuration.kvCache.stores.map(\.store),
                serviceLevel: configuration.serviceLevel,
                serviceLevelByModel: configuration.serviceLevelByModel,
                serviceLevelByPool: configuration.serviceLevelByPool,
                constraints: configuration.constraints,
                refusesUnknownModels: !options.passUnknownModels,
                ignoresSubset: options.disableEndpointSubsetFilter,
                recordedShare: options.decisionLog == nil ? 0 : options.decisionLogSample,
                fallbacks: options.destinations - 1,
                control: configuration.control
            ),
            prefixes: prefixes,
            seed: seed
        )
    }

    private static func certificates(_ options: ServeOptions) throws -> TLSCertificates? {
        guard options.secureServing else { return nil }
        do {
            return try TLSCertificates(
                TLSOptions(
                    certificateFolder: options.certPath,
                    minimumVersion: options.tlsMinVersion == .v1_3 ? .v1_3 : .v1_2,
                    reloads: options.enableCertReload
                )
            )
        } catch {
            Console.error(error.description)
            throw ExitCode(2)
        }
    }

    private static func externalMetrics(
        _ options: ServeOptions,
        namespace: String?,
        _ report: @escaping @Sendable () -> ScalingReport
    ) throws -> DataPlane.ExternalMetrics? {
        guard options.externalMetricsPort != 0, let authority = options.externalMetricsClientCaFile else { return nil }
        var tls = TLSOptions(certificateFolder: options.externalMetricsCertPath)
        let names = options.externalMetricsAllowedNames.split(separator: ",").map { $0.filter { $0 != " " } }
        tls.clients = TLSClients(authorityFile: authority, names: names)
        do {
            return DataPlane.ExternalMetrics(
                certificates: try TLSCertificates(tls),
                namespace: namespace,
                report: report
            )
        } catch {
            Console.error(error.description)
            throw ExitCode(2)
        }
    }

    private static func report(_ reload: TLSReload, _ log: Logger) {
        switch reload {
        case .reloaded: log.info("certificate loaded again")
        case .failed(let error):
            log.error("the new certificate cannot be used; the old one stays", metadata: ["error": "\(error)"])
        }
    }

    private static func fleetOptions(
        _ options: ServeOptions,
        _ configuration: PickerConfiguration,
        known: [EndpointRegistry.Known]
    ) -> FleetService.Options {
        var machine = FleetMachine.Settings(
            refreshInterval: options.refreshMetricsInterval.value,
            staleness: options.metricsStalenessThreshold.value
        )
        machine.known = known
        return FleetService.Options(
            machine: machine,
            file: options.fleet,
            fileOptions: FleetFile.Options(engines: configuration.engines),
            engines: [
                EngineMetrics.vllm(
                    ttft: configuration.serviceLevel.level(promptTokens: Self.typicalPrompt).ttft,
                    tpot: configuration.serviceLevel.tpot
                )
            ] + configuration.engines
        )
    }

    /// Engines count by fixed bounds: the TTFT bound that is watched is that of a prompt of so many tokens.
    private static let typicalPrompt = 1000

    private static func stores(_ configuration: PickerConfiguration) -> [KVEventSubscription] {
        configuration.kvCache.stores.enumerated().map { place, settings in
            KVEventSubscription(
                source: EventSourceID(holder: SharedStore.id(place).rawValue, rank: 0),
                endpoint: settings.endpoint,
                replay: settings.replay,
                topic: settings.topic,
                names: [settings.store.name]
            )
        }
    }

    private static func tokens(
        _ configuration: PickerConfiguration,
        unit: Int,
        _ places: KVEventPlaces
    ) -> PromptTokens? {
        let settings = configuration.kvCache.tokenizer
        return settings.source == .none ? nil : PromptTokens(settings, unit: unit, places: places)
    }

    private static func exchangeOptions(_ options: ServeOptions, keepsBodies: Bool, unit: Int) -> ExchangeOptions {
        var exchange = ExchangeOptions()
        exchange.tokensPerBlock = unit
        if keepsBodies { exchange.keptBodyBytes = PromptTokens.maxBodyBytes }
        exchange.headerNames.destination = options.destinationHeader.lowercased()
        exchange.headerNames.prefiller = options.prefillerHeader.lowercased()
        // It joins the decision log with others, and is no use without it.
        if options.decisionLog == nil { exchange.headerNames.requestID = nil }
        exchange.bodyLimit = options.maxBodyBytes
        exchange.streamEnd = options.streamEnd.value
        exchange.overriddenShare = options.overrideModes ? options.observeShare : nil
        exchange.skims = options.skim
        exchange.destinationLimit = options.destinations
        exchange.ignoresSubset = options.disableEndpointSubsetFilter
        return exchange
    }
}
