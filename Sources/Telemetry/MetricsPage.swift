// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// Lays out the page, in the order of `MetricFamilies.all`.
enum MetricsPage {
    static func render(_ store: MetricStore, _ samples: MetricSamples) -> String {
        var page = Exposition()
        requests(store, samples, &page)
        predictions(store, &page)
        tokens(store, &page)
        pools(store, samples, &page)
        knowledge(store, samples, &page)
        prefixes(samples.index, &page)
        process(samples, &page)
        ScalingPage.render(samples.scaling, &page)
        return page.text
    }

    private typealias F = MetricFamilies

    private static func requests(_ store: MetricStore, _ samples: MetricSamples, _ page: inout Exposition) {
        page.begin(F.requests)
        for (model, cells) in zip(store.models.names, store.modelCells) {
            for (outcome, count) in zip(MetricStore.outcomes, cells.outcomes) {
                page.sample(F.requests, [model, outcome], count)
            }
        }
        page.begin(F.refusals)
        for (reason, count) in zip(MetricStore.refusalReasons, store.refusals) {
            page.sample(F.refusals, [reason], count)
        }
        if !samples.immediateAnswers.isEmpty {
            page.begin(F.immediateAnswers)
            for answer in samples.immediateAnswers { page.sample(F.immediateAnswers, [answer.name], answer.count) }
        }
        page.begin(F.placements)
        for (kind, count) in zip(MetricStore.placementKinds, store.placements) {
            page.sample(F.placements, [kind], count)
        }
        single(F.requestsInFlight, store.requestsInFlight, &page)
        single(F.tokensInFlight, store.tokensInFlight, &page)
        single(F.requestsWaiting, samples.requestsWaiting, &page)
        single(F.requestsSetAside, samples.requestsSetAside, &page)
        page.begin(F.lateBinding)
        for pool in samples.lateBinding { page.sample(F.lateBinding, [pool.name], pool.count) }
        dials(samples.classes, &page)
        page.begin(F.queueOverflows)
        page.sample(F.queueOverflows, [], samples.queueOverflows)
        page.begin(F.localPrefillsForLack)
        page.sample(F.localPrefillsForLack, [], samples.localPrefillsForLack)
        single(F.bodyBytes, samples.bodyBytes, &page)
        single(F.bodiesRefused, samples.bodiesRefused, &page)
        page.begin(F.decisionDuration)
        page.histogram(F.decisionDuration, [], store.decisionDuration)
        histograms(F.requestDuration, store, &page) { $0.requestDuration }
    }

    private static func dials(_ classes: [PriorityClass], _ page: inout Exposition) {
        page.begin(F.valueOfTime)
        for one in classes { page.sample(F.valueOfTime, [name(one)], one.dials.valueOfTime) }
        page.begin(F.sloMissPrice)
        for one in classes { page.sample(F.sloMissPrice, [name(one)], one.dials.sloMissPrice.rawValue) }
    }

    private static func name(_ one: PriorityClass) -> String {
        one.minimumPriority == .min ? "none" : String(one.minimumPriority)
    }

    private static func predictions(_ store: MetricStore, _ page: inout Exposition) {
        histograms(F.ttftObserved, store, &page) { $0.ttftObserved }
        histograms(F.ttftPredicted, store, &page) { $0.ttftPredicted }
        histograms(F.ttftRatio, store, &page) { $0.ttftRatio }
        histograms(F.tpotObserved, store, &page) { $0.tpotObserved }
        histograms(F.tpotPredicted, store, &page) { $0.tpotPredicted }
        histograms(F.tpotRatio, store, &page) { $0.tpotRatio }
        page.begin(F.serviceLevels)
        page.sample(F.serviceLevels, ["ttft", "met"], store.ttftMet)
        page.sample(F.serviceLevels, ["ttft", "missed"], store.ttftMissed)
        page.sample(F.serviceLevels, ["tpot", "met"], store.tpotMet)
        page.sample(F.serviceLevels, ["tpot", "missed"], store.tpotMissed)
        perGroup(F.predictedDollars, store, &page) { $0.dollars }
    }

    private static func tokens(_ store: MetricStore, _ page: inout Exposition) {
        perModel(F.promptTokens, store, &page) { $0.promptTokens }
        perModel(F.cachedTokens, store, &page) { $0.cachedTokens }
        perModel(F.outputTokens, store, &page) { $0.outputTokens }
        page.begin(F.predictedCachedTokens)
        page.sample(F.predictedCachedTokens, [], store.predictedCachedTokens)
        page.begin(F.prefixHits)
        page.sample(F.prefixHits, ["hit"], store.prefixHits)
        page.sample(F.prefixHits, ["miss"], store.prefixMisses)
    }

    /// What the last snapshot says of a group.
    private struct Aggregate {
        var endpoints = 0
        var available = 0
        var unknown = 0
        var waiting = 0
        var running = 0
        var kvUse = 0.0
        var known: Int { endpoints - unknown }
    }

    private static func pools(_ store: MetricStore, _ samples: MetricSamples, _ page: inout Exposition) {
        var all = [Aggregate](repeating: Aggregate(), count: store.groups.groups.count)
        for status in store.fleet.endpoints {
            let group = store.groups.group(of: status.endpoint.id)
            all[group].endpoints += 1
            let isPaused = samples.pausedEndpoints.contains(status.endpoint.id)
            all[group].available += status.unavailable == nil && !isPaused ? 1 : 0
            if let load = status.load {
                all[group].waiting += load.waiting
                all[group].running += load.running
                all[group].kvUse += load.kvUse
            } else {
                all[group].unknown += 1
            }
        }
        func gauge(_ family: MetricFamily, _ value: (Aggregate) -> Double?) {
            page.begin(family)
            for (index, aggregate) in all.enumerated() where isShown(index, store, aggregate.endpoints > 0) {
                if let value = value(aggregate) { page.sample(family, labels(index, store), value) }
            }
        }
        gauge(F.endpoints) { Double($0.endpoints) }
        gauge(F.endpointsAvailable) { Double($0.available) }
        gauge(F.endpointsUnknown) { Double($0.unknown) }
        // Unknown is not zero: a group of which nothing is known has no sample.
        gauge(F.poolWaiting) { $0.known > 0 ? Double($0.waiting) : nil }
        gauge(F.poolRunning) { $0.known > 0 ? Double($0.running) : nil }
        gauge(F.poolKVUse) { $0.known > 0 ? $0.kvUse / Double($0.known) : nil }
        perGroup(F.poolRequests, store, &page) { Double($0.requestsInFlight) }
        perGroup(F.poolTokens, store, &page) { Double($0.prefillTokensInFlight) }
    }

    private static func knowledge(_ store: MetricStore, _ samples: MetricSamples, _ page: inout Exposition) {
        single(F.scrapes, samples.scrapes, &page)
        page.begin(F.scrapeErrors)
        for reason in samples.scrapeErrors { page.sample(F.scrapeErrors, [reason.name], reason.count) }
        page.begin(F.modelLists)
        page.sample(F.modelLists, ["ok"], samples.modelLists)
        page.sample(F.modelLists, ["failed"], samples.modelListFailures)
        single(F.snapshots, samples.snapshots, &page)
        page.begin(F.reloads)
        page.sample(F.reloads, ["ok"], samples.reloads)
        page.sample(F.reloads, ["failed"], samples.failedReloads)
        single(F.fileIsBad, samples.fileIsBad ? 1 : 0, &page)
        cluster(samples, &page)
        page.begin(F.profiles)
        for source in ProfileSource.allCases {
            let count = store.fleet.endpoints.count { $0.endpoint.profile.source == source }
            page.sample(F.profiles, [source.rawValue], count)
        }
        single(F.indexBytes, samples.indexBytes, &page)
        single(F.indexBlocks, samples.indexBlocks, &page)
    }

    private static func prefixes(_ index: PrefixIndexSamples, _ page: inout Exposition) {
        single(F.indexHeldBlocks, index.heldBlocks, &page)
        single(F.indexBudget, index.budgetBytes, &page)
        single(F.indexEvictions, index.evictedBlocks, &page)
        single(F.indexDomains, index.hashDomains, &page)
        page.begin(F.kvEvents)
        for event in index.events { page.sample(F.kvEvents, [event.name], event.count) }
        page.begin(F.kvBatches)
        page.sample(F.kvBatches, ["ok"], index.batches - index.malformedBatches)
        page.sample(F.kvBatches, ["malformed"], index.malformedBatches)
        single(F.kvGaps, index.gaps, &page)
        single(F.kvLost, index.lostBatches, &page)
        single(F.kvRestarts, index.publisherRestarts, &page)
        page.begin(F.kvReplays)
        page.sample(F.kvReplays, ["asked"], index.replays)
        page.sample(F.kvReplays, ["failed"], index.failedReplays)
        page.begin(F.kvPublishers)
        page.sample(F.kvPublishers, ["subscribed"], index.publishers)
        page.sample(F.kvPublishers, ["doubtful"], index.doubtfulPublishers)
        page.sample(F.kvPublishers, ["failed"], index.publisherFailures)
        page.begin(F.hitTokens)
        page.sample(F.hitTokens, ["predicted"], index.predictedTokens)
        page.sample(F.hitTokens, ["found"], index.reportedTokens)
        page.sample(F.hitTokens, ["difference"], index.missedTokens)
        // Where nothing was expected or looked up there is no ratio, and no sample.
        page.begin(F.hitRatio)
        if index.predictedTokens > 0 {
            page.sample(F.hitRatio, ["found"], index.reportedTokens / index.predictedTokens)
        }
        if index.engineQueries > 0 { page.sample(F.hitRatio, ["engine"], index.engineHits / index.engineQueries) }
        single(F.distrusted, index.distrustedEndpoints, &page)
        page.begin(F.prefixKeys)
        for source in index.keys { page.sample(F.prefixKeys, [source.name], source.count) }
    }

    private static func process(_ samples: MetricSamples, _ page: inout Exposition) {
        single(F.servedElsewhere, samples.servedElsewhere, &page)
        single(F.protocolViolations, samples.protocolViolations, &page)
        single(F.decisionLogDropped, samples.decisionLogDropped, &page)
        page.begin(F.processorTime)
        page.sample(F.processorTime, [], samples.processorSeconds)
        single(F.residentMemory, samples.residentBytes, &page)
        single(F.ready, samples.isReady ? 1 : 0, &page)
        single(F.leader, samples.isLeader ? 1 : 0, &page)
        page.begin(F.buildInfo)
        page.sample(F.buildInfo, [samples.version], 1)
    }

    // MARK: Shapes

    static func single(_ family: MetricFamily, _ value: Int, _ page: inout Exposition) {
        page.begin(family)
        page.sample(family, [], value)
    }

    /// The group of what is unknown is shown only where it holds something.
    private static func isShown(_ index: Int, _ store: MetricStore, _ holdsSomething: Bool) -> Bool {
        index > 0 || holdsSomething
    }

    private static func labels(_ index: Int, _ store: MetricStore) -> [String] {
        let group = store.groups.groups[index]
        return [group.pool, group.role, group.accelerator]
    }

    private static func perGroup(
        _ family: MetricFamily,
        _ store: MetricStore,
        _ page: inout Exposition,
        _ value: (MetricStore.GroupCells) -> Double
    ) {
        page.begin(family)
        for (index, cells) in store.groupCells.enumerated() where isShown(index, store, value(cells) != 0) {
            page.sample(family, labels(index, store), value(cells))
        }
    }

    private static func perModel(
        _ family: MetricFamily,
        _ store: MetricStore,
        _ page: inout Exposition,
        _ value: (MetricStore.ModelCells) -> UInt64
    ) {
        page.begin(family)
        for (model, cells) in zip(store.models.names, store.modelCells) {
            page.sample(family, [model], value(cells))
        }
    }

    /// Series begin with their first observation: prefill pods never decode, and the other way round.
    private static func histograms(
        _ family: MetricFamily,
        _ store: MetricStore,
        _ page: inout Exposition,
        _ cells: (MetricStore.GroupCells) -> HistogramCells
    ) {
        page.begin(family)
        for (index, group) in store.groupCells.enumerated() where cells(group).total > 0 {
            page.histogram(family, labels(index, store), cells(group))
        }
    }
}
