// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Fleet
import Foundation
import Gateway
import Kubernetes
import PrefixIndex
import Router
import Telemetry

/// The pages of a serving picker.
struct AdminPages {
    let host: RouterHost
    let network: NetworkTopology
    let metrics: Metrics
    let readiness: Readiness
    let fleet: FleetService
    /// nil where the fleet is a file.
    let cluster: ClusterService?
    let clusterFleet: ClusterFleet
    let prefixes: PrefixKnowledge
    let counters: ExchangeCounters
    let bodies: BodyBudget
    let decisionLog: DecisionLog?
    let events: KVEventService
    let scaling: ScalingService

    var all: [AdminPage] {
        var metricsPage = AdminPage("/metrics", Metrics.contentType) { (200, metrics.page(samples())) }
        metricsPage.isProtected = true
        return [
            metricsPage,
            AdminPage("/healthz") { (200, "ok\n") },
            AdminPage("/readyz") { (readiness.isReady ? 200 : 503, readinessText) },
            AdminPage("/debug/calibration", AdminPage.json) { Self.json(calibrations()) },
            AdminPage("/debug/router", AdminPage.json) { Self.json(host.summary) },
            AdminPage("/debug/scaling", AdminPage.json) { Self.json(scaling.report) },
            AdminPage("/debug/fleet", AdminPage.json) { Self.json(fleetPage) },
        ]
    }

    private func calibrations() -> CalibrationPage { CalibrationPage(host.calibrationState, endpoints: host.summary) }

    /// Trouble with the cluster does not take readiness away once pods are known: it is told all the same.
    private var readinessText: String {
        let lines = [readiness.current.rawValue, cluster?.standing.trouble].compactMap { $0 }
        return lines.joined(separator: "\n") + "\n"
    }

    private var fleetPage: FleetPage {
        let endpoints = host.fleetNow
        return FleetPage(
            endpoints: endpoints,
            network: FleetPage.Network(endpoints, network),
            pods: cluster == nil ? nil : clusterFleet.pods,
            cluster: cluster.map { FleetPage.Cluster($0.standing) }
        )
    }

    private static func json(_ value: some Encodable) -> (status: Int, body: String) {
        guard let text = try? JSONLine.encode(value) else { return (500, "cannot be shown as JSON\n") }
        return (200, text + "\n")
    }

    private func samples() -> MetricSamples {
        var samples = MetricSamples()
        let router = host.summary
        samples.requestsWaiting = router.queued
        samples.requestsSetAside = router.setAside
        samples.pausedEndpoints = Set(router.endpoints.filter { $0.unavailable != nil }.map(\.id))
        samples.localPrefillsForLack = router.counts.localForLack
        samples.queueOverflows = router.counts.overflowed
        samples.lateBinding = router.lateBinding.map { MetricSamples.Reason($0.pool, $0.isOn ? 1 : 0) }
        samples.classes = router.classes
        let fleet = fleet.statistics
        samples.scrapes = fleet.scrapes
        samples.scrapeErrors = zip(FetchFailure.reasons, fleet.scrapeFailures).map { MetricSamples.Reason($0, $1) }
        samples.modelLists = fleet.modelLists
        samples.modelListFailures = fleet.modelListFailures
        samples.snapshots = fleet.snapshots
        samples.reloads = fleet.reloads
        samples.failedReloads = fleet.failedReloads
        samples.fileIsBad = fleet.fileIsBad
        if let standing = cluster?.standing {
            samples.watches = standing.watches.map {
                MetricSamples.Watch(
                    kind: $0.kind,
                    standing: $0.standing.name,
                    failures: $0.counts.failures,
                    lists: $0.counts.lists,
                    events: $0.counts.events,
                    invalid: $0.invalid.count
                )
            }
            samples.poolTroubles = standing.pools.map { MetricSamples.Reason($0.name, $0.trouble == nil ? 0 : 1) }
            samples.podsWithoutProfile = clusterFleet.pods.count { !$0.endpoints.isEmpty && !$0.hasProfile }
        }
        let index = prefixes.statistics
        let told = prefixes.toldStatistics
        samples.indexBytes = index.trie.bytes + told.trie.bytes
        samples.indexBlocks = index.trie.blocks + told.trie.blocks
        samples.index = prefixSamples(index, told)
        samples.immediateAnswers = counters.answers.map { MetricSamples.Reason(String($0.status), Int($0.count)) }
        samples.servedElsewhere = Int(counters.servedElsewhereCount)
        samples.protocolViolations = Int(counters.violations)
        samples.bodyBytes = bodies.used
        samples.bodiesRefused = bodies.refused
        samples.decisionLogDropped = decisionLog?.dropped ?? 0
        samples.processorSeconds = ProcessUsage.processorSeconds
        samples.residentBytes = ProcessUsage.residentBytes
        samples.isReady = readiness.isReady
        samples.isLeader = !readiness.follows
        samples.version = EPPPD.version
        samples.scaling = scaling.report
        return samples
    }

    private func prefixSamples(_ learned: PrefixIndexStatistics, _ told: EventIndexStatistics) -> PrefixIndexSamples {
        var samples = PrefixIndexSamples()
        samples.heldBlocks = learned.trie.heldBlocks + told.trie.heldBlocks
        samples.budgetBytes = learned.trie.budget + told.trie.budget
        samples.evictedBlocks = learned.trie.evictedBlocks + told.trie.evictedBlocks
        samples.hashDomains = told.domains
        let outcome = told.outcome
        samples.events = [
            MetricSamples.Reason("stored", outcome.storedBlocks),
            MetricSamples.Reason("repeated", outcome.repeatedBlocks),
            MetricSamples.Reason("removed", outcome.removedBlocks), MetricSamples.Reason("cleared", outcome.clears),
            MetricSamples.Reason("orphan", outcome.orphans),
            MetricSamples.Reason("unknown_removal", outcome.unknownRemovals),
            MetricSamples.Reason("foreign", outcome.foreignBlocks),
            MetricSamples.Reason("refused", outcome.refusedBlocks),
            MetricSamples.Reason("skipped", outcome.skippedEvents),
            MetricSamples.Reason("unusable", outcome.unusableEvents),
        ]
        samples.events += [
            MetricSamples.Reason("hash_recognized", outcome.recognizedHashes),
            MetricSamples.Reason("hash_different", outcome.differentHashes),
        ]
        let stream = events.statistics
        samples.batches = stream.messages
        samples.malformedBatches = stream.malformed
        samples.gaps = stream.gaps
        samples.lostBatches = Int(clamping: stream.lostBatches)
        samples.publisherRestarts = stream.restarts
        samples.replays = stream.replays
        samples.failedReplays = stream.replayFailures
        samples.publishers = stream.subscriptions
        samples.doubtfulPublishers = told.doubtfulSources
        samples.publisherFailures = stream.failures.count
        for feedback in prefixes.feedbacks {
            samples.predictedTokens += feedback.predictedTokens
            samples.reportedTokens += feedback.reportedTokens
            samples.missedTokens += feedback.missedTokens
            samples.engineQueries += feedback.engineQueries
            samples.engineHits += feedback.engineHits
        }
        samples.distrustedEndpoints = prefixes.distrustedCount
        samples.keys = host.keySources.all.map { MetricSamples.Reason($0.source.rawValue, $0.count) }
        return samples
    }
}
