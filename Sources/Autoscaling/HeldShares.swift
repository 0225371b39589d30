// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router

/// Which groups the requests that wait in the picker will go to: shares by pods among those that could take them, for
/// their prompts and for their output.
struct HeldShares: Sendable {
    private let held: Double
    private let counts: [PodGroup: Int]
    private let prompts: Int
    private let outputs: Int
    private let groups: [PodGroup]

    init(_ held: Int, groups: [PodGroup], members: [PodGroup: [EndpointStatus]]) {
        self.held = Double(max(held, 0))
        self.groups = groups
        let counts = members.mapValues { pods in pods.count { $0.unavailable == nil } }
        self.counts = counts
        func sum(_ takes: (Role) -> Bool) -> Int {
            groups.reduce(0) { $0 + (takes($1.role) ? counts[$1] ?? 0 : 0) }
        }
        prompts = sum { $0.canPrefill }
        outputs = sum { $0.canDecode }
    }

    /// Requests. A group without pods has a share only where no group has pods that give output: it is what is waited for.
    func share(of group: PodGroup) -> Double {
        let count = Double(counts[group] ?? 0)
        if outputs == 0 {
            let waitedFor = groups.count { $0.role.canDecode }
            return group.role.canDecode && waitedFor > 0 ? held / Double(waitedFor) : 0
        }
        switch group.role {
        case .prefill: return prompts > 0 ? held * count / Double(prompts) : 0
        case .decode, .both: return held * count / Double(outputs)
        }
    }
}
