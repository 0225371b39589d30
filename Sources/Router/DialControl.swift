// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
import Glibc

/// What the value of time is steered towards.
package enum ControlTarget: Sendable, Hashable, Codable {
    /// Busy dollars per request, on average.
    case dollarsPerRequest(Dollars)
    /// Share of requests that meet their service level.
    case attainment(Double)
}

/// Moves the value of time, minute by minute, towards a target: the dual of a budget.
///
/// Dearer than the target, or more requests within their bounds than asked for: time becomes cheaper, so that dollars
/// weigh more. The other way round: dearer. Integral control on the logarithm, by at most a factor of two a minute.
struct DialControl: Sendable {
    private let target: ControlTarget?
    /// Factor on every class's value of time.
    private(set) var factor = 1.0
    private var started: Instant?
    private var requests = 0.0
    private var judged = 0.0
    private var met = 0.0
    private var dollars = 0.0

    static let period = Seconds(60)
    /// Fewer requests than this say nothing; the period goes on.
    static let fewest = 20.0
    static let range = 0.01...100.0
    static let gain = 0.5

    init(_ target: ControlTarget?) { self.target = target }

    func applied(to dials: Dials) -> Dials {
        guard factor != 1 else { return dials }
        return Dials(valueOfTime: dials.valueOfTime * factor, sloMissPrice: dials.sloMissPrice)
    }

    /// A request ended. `isMet`: nil where nobody saw whether it met its bounds.
    mutating func ended(isMet: Bool?, dollars spent: Dollars, at now: Instant) {
        guard let target else { return }
        let begin = started ?? now
        started = begin
        requests += 1
        if spent.rawValue.isFinite { dollars += max(spent.rawValue, 0) }
        if let isMet {
            judged += 1
            if isMet { met += 1 }
        }
        guard now - begin >= Self.period, requests >= Self.fewest else { return }
        step(towards: target)
        started = now
        (requests, judged, met, dollars) = (0, 0, 0, 0)
    }

    private mutating func step(towards target: ControlTarget) {
        let error: Double
        switch target {
        case .dollarsPerRequest(let wanted):
            error = 1 - dollars / requests / max(wanted.rawValue, 1e-12)
        case .attainment(let wanted):
            guard judged >= Self.fewest else { return }
            // In units of the misses that are allowed: 0.98 where 0.99 is wanted is one.
            error = (wanted - met / judged) / max(1 - wanted, 1e-3)
        }
        let change = exp(min(max(Self.gain * error, -log(2.0)), log(2.0)))
        factor = min(max(factor * change, Self.range.lowerBound), Self.range.upperBound)
    }
}
