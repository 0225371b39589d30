// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A watch of some kind, as what drives it sees it.
protocol Watching: Sendable {
    var place: ResourcePlace { get }
    var standing: WatchStanding { get }
    var counts: WatchCounts { get }
    var isSynced: Bool { get }
    var revision: UInt64 { get }
    var nextWake: Double { get }
    var invalid: [ObjectName: String] { get }

    mutating func request(at now: Double, using random: inout some RandomNumberGenerator) -> KubernetesRequest?
    mutating func received(_ bytes: [UInt8], status: Int) -> Bool
    mutating func ended(
        status: Int,
        retryAfter: Double?,
        failure: KubernetesFailure?,
        at now: Double,
        using random: inout some RandomNumberGenerator
    ) -> KubernetesRequest?
}

extension ResourceWatch: Watching {}
