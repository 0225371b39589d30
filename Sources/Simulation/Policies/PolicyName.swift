// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A policy as the command line names it: `NAME`, `NAME-pull`, `NAME@tuned`, `NAME-pull@tuned`.
package struct PolicyName: Sendable, Hashable {
    package enum Base: String, Sendable, Hashable, CaseIterable {
        case random
        case roundRobin = "round-robin"
        case leastRequest = "least-request"
        case hashBoundedLoad = "hash-bounded-load"
        case sglangCacheAware = "sglang-cache-aware"
        case llmD = "llm-d"
        case dynamo
        case lmetric
        case jointEarly = "joint-early"
        case joint
        case jointClairvoyant = "joint-clairvoyant"
        case jointNoPull = "joint-no-pull"

        package var isOurs: Bool {
            switch self {
            case .jointEarly, .joint, .jointClairvoyant, .jointNoPull: true
            default: false
            }
        }
    }

    package var base: Base
    package var isTuned: Bool
    package var pulls: Bool

    package init(_ base: Base, isTuned: Bool = false, pulls: Bool = false) {
        self.base = base
        self.isTuned = isTuned
        self.pulls = pulls
    }

    /// nil where no policy has this name.
    package init?(_ text: String) {
        var name = Substring(text)
        var (isTuned, pulls) = (false, false)
        while let suffix = ["@tuned", "-pull"].first(where: { name.hasSuffix($0) && name != "joint-no-pull" }) {
            if suffix == "-pull" {
                guard !pulls else { return nil }
                pulls = true
            } else {
                guard !isTuned else { return nil }
                isTuned = true
            }
            name = name.dropLast(suffix.count)
        }
        guard let base = Base(rawValue: String(name)), !base.isOurs || !(isTuned || pulls) else { return nil }
        self.init(base, isTuned: isTuned, pulls: pulls)
    }

    package var text: String { base.rawValue + (pulls ? "-pull" : "") + (isTuned ? "@tuned" : "") }

    package static let all = Base.allCases.map(\.rawValue)
}
