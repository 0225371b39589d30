// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import CostModel
import Router
import Simulation

/// `KIND@FROM[+DURATION]`; see the help of `simulate`.
enum FaultArgument {
    /// The forms, for the help: what each means is in docs/simulator.md.
    static let forms = """
        crash:POD@FROM[+DURATION], silent:POD@FROM+DURATION, slow:POD*FACTOR@FROM+DURATION, \
        profile*FACTOR@FROM+DURATION, picker:INDEX@FROM
        """

    static func parse(_ text: String, _ endpoints: [Endpoint], pickers: Int) throws -> Fault {
        let wrong = ValidationError("--fault \(text) is none of \(forms)")
        let halves = text.split(separator: "@", omittingEmptySubsequences: false)
        guard halves.count == 2 else { throw wrong }
        let times = halves[1].split(separator: "+", omittingEmptySubsequences: false).map {
            DurationArgument(argument: String($0))
        }
        guard (1...2).contains(times.count), let from = times[0] else { throw wrong }
        let span = times.count == 2 ? times[1] : DurationArgument("0s")
        guard let span else { throw wrong }
        let factors = halves[0].split(separator: "*", omittingEmptySubsequences: false)
        let names = factors[0].split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let factor = factors.count == 2 ? Double(factors[1]) : nil
        guard factors.count <= 2, (factors.count == 2) == (factor != nil) else { throw wrong }
        if let factor { guard factor.isFinite, factor > 0 else { throw wrong } }
        let kind = try kind(names, factor, endpoints, pickers: pickers, text) ?? { throw wrong }()
        if kind.lasts, span.value <= .zero { throw ValidationError("--fault \(text) needs a DURATION: \(forms)") }
        return Fault(kind, from: from.value.rawValue, to: (from.value + span.value).rawValue)
    }

    private static func kind(
        _ names: [String],
        _ factor: Double?,
        _ endpoints: [Endpoint],
        pickers: Int,
        _ text: String
    ) throws -> Fault.Kind? {
        if names == ["profile"] { return factor.map { .profileOff(factor: $0) } }
        guard names.count == 2, ["picker", "crash", "silent", "slow"].contains(names[0]) else { return nil }
        guard (names[0] == "slow") == (factor != nil) else { return nil }
        if names[0] == "picker" {
            guard let picker = Int(names[1]), (0..<pickers).contains(picker) else {
                throw ValidationError("--fault \(text): pickers are numbered from 0 to \(pickers - 1)")
            }
            return .pickerRestart(picker: picker)
        }
        guard let pod = endpoints.firstIndex(where: { $0.name == names[1] }) else {
            let known = endpoints.prefix(20).map(\.name).joined(separator: ", ")
            throw ValidationError("--fault \(text): the fleet has no pod \(names[1]), but \(known)")
        }
        switch names[0] {
        case "crash": return .crash(pod: pod)
        case "silent": return .missingScrapes(pod: pod)
        default: return factor.map { .slow(pod: pod, factor: $0) }
        }
    }
}

extension Fault.Kind {
    /// It does nothing in no time. A crash does: the pod is back at once, with an empty cache.
    fileprivate var lasts: Bool {
        switch self {
        case .crash, .pickerRestart: false
        case .missingScrapes, .slow, .profileOff: true
        }
    }
}
