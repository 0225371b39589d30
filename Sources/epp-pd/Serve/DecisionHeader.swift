// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// The value of `x-epp-pd-decision`: `decode=NAME;prefill=NAME;ttft=MS;tpot=MS;cached=TOKENS;usd=DOLLARS`.
///
/// `prefill` is absent where the destination computes the prompt itself, `pull` where nothing is pulled; a request without
/// an inference has a destination alone.
enum DecisionHeader {
    static func text(of decision: Decision, name: (EndpointID) -> String?) -> String {
        func shown(_ id: EndpointID) -> String { plain(name(id) ?? "\(id.rawValue)") }
        var parts = ["decode=" + shown(decision.placement.destination)]
        if case .pair(let prefill, _) = decision.placement { parts.append("prefill=" + shown(prefill)) }
        if let source = decision.pullFrom { parts.append("pull=" + shown(source)) }
        guard decision.predictedTTFT > .zero else { return parts.joined(separator: ";") }
        parts.append("ttft=" + Numbers.fixed(decision.predictedTTFT.rawValue * 1000, 1))
        parts.append("tpot=" + Numbers.fixed(decision.predictedTPOT.rawValue * 1000, 2))
        parts.append("cached=\(decision.predictedCachedTokens)")
        parts.append("usd=" + Numbers.fixed(decision.predictedDollars.rawValue, 8))
        return parts.joined(separator: ";")
    }

    /// Names come from files and from Kubernetes: only what is safe in a header and is no separator here.
    private static func plain(_ name: String) -> String {
        let safe = name.utf8.map { byte in
            (0x21...0x7E).contains(byte) && byte != UInt8(ascii: ";") && byte != UInt8(ascii: "=")
                ? byte : UInt8(ascii: "_")
        }
        return String(decoding: safe, as: UTF8.self)
    }
}
