// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What is to be logged of a cluster's trouble: one line when it begins or becomes another, one when it is over. Pure.
///
/// A server that is lost fails every watch: that is one trouble, and one line names the first watch that told. What can be done
/// without is told apart, since a failure of it must not hide a later one of what is needed.
///
/// Failures are over when none was seen for a while. A server whose lists are good and whose watches break has a good moment
/// with each list, for minutes.
package struct TroubleLog: Sendable {
    package enum Line: Sendable, Hashable {
        case began(what: String, trouble: String)
        case ended(what: String)
    }

    /// Invalid objects of one resource to name; all of them are on /debug/fleet.
    private static let mostInvalid = 20
    /// One kind for all failures. A server that is away or broken answers now with a reset, now with a refusal, 500 or a
    /// page of a proxy, for minutes: that is one trouble. /readyz says the last of them.
    private static let failing = "failing"
    private static let needed = "the Kubernetes API"
    private static let optional = "the Kubernetes API, for what can be done without"

    private let calm: Double

    private struct Told {
        var kind: String
        /// Since when it is not there any more.
        var goneSince: Double?
    }

    /// What was told, by what it is of.
    private var told: [String: Told] = [:]

    /// - Parameter calm: seconds without a failure after which it is over: more than a watch waits before it tries again.
    package init(calm: Double) { self.calm = calm }

    /// When `update` may have something to say although nothing changed.
    package var nextWake: Double { told.values.compactMap(\.goneSince).min().map { $0 + calm } ?? .infinity }

    /// What became of it since the last time.
    package mutating func update(_ state: ClusterState, _ reports: [WatchReport], at time: Double) -> [Line] {
        var now: [(what: String, kind: String, trouble: String)] = []
        for report in reports {
            let trouble = report.standing.description
            if case .failing = report.standing {
                let what = report.isOptional ? Self.optional : Self.needed
                if !now.contains(where: { $0.what == what }) {
                    now.append((what, Self.failing, "\(report.kind): \(trouble)"))
                }
            } else if report.standing.isTrouble {
                now.append((report.kind, trouble, trouble))
            }
            for (name, why) in report.invalid.sorted(by: { $0.key < $1.key }).prefix(Self.mostInvalid) {
                now.append(("\(report.kind) \(name)", why, "cannot be read: \(why)"))
            }
        }
        for pool in state.pools {
            if let trouble = pool.trouble { now.append(("pool \(pool.name)", trouble, trouble)) }
        }
        var lines: [Line] = []
        for (what, kind, trouble) in now {
            if told[what]?.kind != kind { lines.append(.began(what: what, trouble: trouble)) }
            told[what] = Told(kind: kind)
        }
        let present = Set(now.map(\.what))
        for what in told.keys.sorted() where !present.contains(what) {
            let since = told[what]?.goneSince ?? time
            told[what]?.goneSince = since
            guard told[what]?.kind != Self.failing || time >= since + calm else { continue }
            told[what] = nil
            lines.append(.ended(what: what))
        }
        return lines
    }
}
