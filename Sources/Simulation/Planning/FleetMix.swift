// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
package import Router

/// A pod that a plan may use any number of.
package struct PodChoice: Sendable, Hashable {
    /// Accelerator, tensor parallelism and dtype, for people.
    package var label: String
    /// Its role, id and name are the mix's to give.
    package var endpoint: Endpoint
    package var dtype: String

    package init(label: String, endpoint: Endpoint, dtype: String) {
        self.label = label
        self.endpoint = endpoint
        self.dtype = dtype
    }

    package var dollarsPerHour: Double { endpoint.profile.dollarsPerSecond * 3600 }
}

/// How many pods of each choice play each role.
package struct FleetMix: Sendable, Hashable {
    /// Per choice: pods that prefill, that decode, that do both.
    package var prefill: [Int]
    package var decode: [Int]
    package var both: [Int]

    init(choices: Int) {
        prefill = Array(repeating: 0, count: choices)
        decode = prefill
        both = prefill
    }

    package var pods: Int { (prefill + decode + both).reduce(0, +) }

    func dollarsPerHour(_ choices: [PodChoice]) -> Double {
        choices.indices.reduce(0) {
            $0 + Double(prefill[$1] + decode[$1] + both[$1]) * choices[$1].dollarsPerHour
        }
    }

    func endpoints(_ choices: [PodChoice]) -> [Endpoint] {
        var all: [Endpoint] = []
        for (role, counts) in [(Role.prefill, prefill), (.decode, decode), (.both, both)] {
            for (index, count) in counts.enumerated() {
                for place in 0..<count {
                    var endpoint = choices[index].endpoint
                    endpoint.id = EndpointID(UInt32(all.count))
                    endpoint.role = role
                    endpoint.name = "\(role.rawValue)-\(endpoint.accelerator)-\(index)-\(place)"
                    all.append(endpoint)
                }
            }
        }
        return all
    }

    /// `3 × h100-sxm TP4 fp8 prefill, 1 × l40s TP4 fp8 decode`
    package func described(_ choices: [PodChoice]) -> String {
        var parts: [String] = []
        for (role, counts) in [("prefill", prefill), ("decode", decode), ("both", both)] {
            for (index, count) in counts.enumerated() where count > 0 {
                parts.append("\(count) × \(choices[index].label) \(role)")
            }
        }
        return parts.joined(separator: ", ")
    }

    /// The mixes with one pod more that are still of a kind: pods of both roles stay among themselves.
    func grown() -> [FleetMix] {
        var all: [FleetMix] = []
        let isShared = both.contains { $0 > 0 }
        for index in prefill.indices {
            if isShared {
                all.append(adding { $0.both[index] += 1 })
            } else {
                all.append(adding { $0.prefill[index] += 1 })
                all.append(adding { $0.decode[index] += 1 })
            }
        }
        return all
    }

    private func adding(_ change: (inout FleetMix) -> Void) -> FleetMix {
        var copy = self
        change(&copy)
        return copy
    }

    /// The smallest fleets that can serve: a pair, or one pod of both roles.
    static func smallest(choices: Int) -> [FleetMix] {
        var all: [FleetMix] = []
        for p in 0..<choices {
            for d in 0..<choices {
                var mix = FleetMix(choices: choices)
                mix.prefill[p] = 1
                mix.decode[d] = 1
                all.append(mix)
            }
            var mix = FleetMix(choices: choices)
            mix.both[p] = 1
            all.append(mix)
        }
        return all
    }
}
