// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel
import Router
import Simulation

/// `ttft=1s+0.25ms/token,tpot=50ms`; each part may be left out.
struct ServiceLevelArgument: ExpressibleByArgument, Sendable {
    var rule: ServiceLevelRule
    private var text: String

    /// What results are judged by unless another is given.
    static let standard = ServiceLevelArgument(rule: .standard, text: "ttft=1s+0.25ms/token,tpot=50ms")

    private init(rule: ServiceLevelRule, text: String) {
        self.rule = rule
        self.text = text
    }

    init?(argument: String) {
        text = argument
        rule = ServiceLevelRule()
        for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
            if part.hasPrefix("ttft="), rule.ttftBase == nil {
                guard takeTTFT(part.dropFirst(5)) else { return nil }
            } else if part.hasPrefix("tpot="), rule.tpot == nil {
                guard let value = GoDuration.parse(String(part.dropFirst(5))), value > .zero else { return nil }
                rule.tpot = value
            } else {
                return nil
            }
        }
    }

    /// `1s+0.25ms/token`, or one of the two.
    private mutating func takeTTFT(_ text: Substring) -> Bool {
        var (base, perToken): (Seconds?, Seconds?)
        for term in text.split(separator: "+", omittingEmptySubsequences: false) {
            let isPerToken = term.hasSuffix("/token")
            let duration = isPerToken ? term.dropLast("/token".count) : term
            guard let value = GoDuration.parse(String(duration)), value >= .zero else { return false }
            guard (isPerToken ? perToken : base) == nil else { return false }
            if isPerToken { perToken = value } else { base = value }
        }
        (rule.ttftBase, rule.ttftPerPromptToken) = (base ?? .zero, perToken ?? .zero)
        return true
    }

    var defaultValueDescription: String { text }
}

/// Values with commas between them.
struct ListArgument<Element: LosslessStringConvertible & Sendable>: ExpressibleByArgument, Sendable {
    var values: [Element]

    init(_ values: [Element]) { self.values = values }

    init?(argument: String) {
        values = []
        for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
            guard let value = Element(String(part)) else { return nil }
            values.append(value)
        }
    }

    var defaultValueDescription: String { values.map(\.description).joined(separator: ",") }
}

/// `attainment=0.99` or `dollarsPerThousand=5`.
struct ControlArgument: ExpressibleByArgument, Sendable {
    var target: ControlTarget

    init?(argument: String) {
        let parts = argument.split(separator: "=", omittingEmptySubsequences: false)
        guard parts.count == 2, let value = Double(parts[1]), value > 0, value.isFinite else { return nil }
        switch parts[0] {
        case "attainment" where value < 1: target = .attainment(value)
        case "dollarsPerThousand": target = .dollarsPerRequest(Dollars(value / 1000))
        default: return nil
        }
    }
}
