// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What a picker tells of the Kubernetes API that it follows. Without a cluster there are no samples.
extension MetricFamilies {
    static let watchStanding = MetricFamily(
        "epp_pd_kubernetes_watch_standing",
        .gauge,
        "1 for how the watch of a resource stands: starting, live, absent, denied or failing.",
        labels: ["resource", "standing"]
    )
    static let watchLists = MetricFamily(
        "epp_pd_kubernetes_lists_total",
        .counter,
        "Complete lists of a resource.",
        labels: ["resource"]
    )
    static let watchEvents = MetricFamily(
        "epp_pd_kubernetes_events_total",
        .counter,
        "Events of a watch.",
        labels: ["resource"]
    )
    static let watchFailures = MetricFamily(
        "epp_pd_kubernetes_failures_total",
        .counter,
        "Lists and watches that failed.",
        labels: ["resource"]
    )
    static let invalidObjects = MetricFamily(
        "epp_pd_kubernetes_invalid_objects",
        .gauge,
        "Objects that cannot be read: their last good state counts.",
        labels: ["resource"]
    )
    static let poolTrouble = MetricFamily(
        "epp_pd_kubernetes_pool_trouble",
        .gauge,
        "1 for an InferencePool that does not exist or cannot be read, else 0: /readyz says why.",
        labels: ["pool"]
    )
    static let podsWithoutProfile = MetricFamily(
        "epp_pd_pods_without_profile",
        .gauge,
        "Pods whose model or accelerator nobody says: /debug/fleet and epp-pd fleet name them."
    )
}

extension MetricsPage {
    static func cluster(_ samples: MetricSamples, _ page: inout Exposition) {
        typealias F = MetricFamilies
        page.begin(F.watchStanding)
        for watch in merged(samples.watches) { page.sample(F.watchStanding, [watch.kind, watch.standing], 1) }
        let counters: [(MetricFamily, (MetricSamples.Watch) -> Int)] = [
            (F.watchLists, { $0.lists }), (F.watchEvents, { $0.events }), (F.watchFailures, { $0.failures }),
            (F.invalidObjects, { $0.invalid }),
        ]
        for (family, value) in counters {
            page.begin(family)
            for watch in merged(samples.watches) { page.sample(family, [watch.kind], value(watch)) }
        }
        page.begin(F.poolTrouble)
        for pool in samples.poolTroubles { page.sample(F.poolTrouble, [pool.name], pool.count) }
        page.begin(F.podsWithoutProfile)
        if let count = samples.podsWithoutProfile { page.sample(F.podsWithoutProfile, [], count) }
    }

    /// The pods of several pools have a watch each: one row of a kind, standing as the worst of them.
    private static func merged(_ watches: [MetricSamples.Watch]) -> [MetricSamples.Watch] {
        let severity = ["live", "absent", "starting", "denied", "failing"]
        var result: [MetricSamples.Watch] = []
        for watch in watches {
            guard let index = result.firstIndex(where: { $0.kind == watch.kind }) else {
                result.append(watch)
                continue
            }
            result[index].failures += watch.failures
            result[index].lists += watch.lists
            result[index].events += watch.events
            result[index].invalid += watch.invalid
            let known = severity.firstIndex(of: result[index].standing) ?? 0
            if severity.firstIndex(of: watch.standing) ?? 0 > known { result[index].standing = watch.standing }
        }
        return result
    }
}
