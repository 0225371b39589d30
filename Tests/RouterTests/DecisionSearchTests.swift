// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@testable import Router

/// Frames and requests of every kind, from a seed.
struct RandomDecision {
    var frame: DecisionFrame
    var request: RequestFacts
    var dials: Dials
    var settings: CostSettings
    var draw: UInt64

    init(_ random: inout SplitMix64, prefills: Int, decodes: Int) {
        let window = Bool.random(using: &random) ? KVWindow(tokens: 4096, share: 1.5) : nil
        let profiles = [Pods.h100, Pods.h200, Pods.a100].map { profile in
            var profile = profile
            profile.kvWindow = window
            return profile
        }
        let count = prefills + decodes
        var states: [PodState] = []
        for index in 0..<count {
            let isBoth = Int.random(in: 0..<6, using: &random) == 0
            let busy = Bool.random(using: &random)
            states.append(
                PodState(
                    id: EndpointID(UInt32(index * 3 + 1)),
                    role: isBoth ? .both : index < prefills ? .prefill : .decode,
                    canPull: Bool.random(using: &random),
                    canPair: Bool.random(using: &random),
                    kvClass: Int.random(in: 0..<8, using: &random) == 0 ? 1 : Bool.random(using: &random) ? 0 : 2,
                    place: Bool.random(using: &random)
                        ? nil
                        : PodPlace(
                            zone: Int32.random(in: -1...1, using: &random),
                            rack: Int32.random(in: -1...2, using: &random),
                            host: Int32.random(in: 0...5, using: &random)
                        ),
                    profile: profiles[Int.random(in: 0..<3, using: &random)],
                    calibration: PodCalibration(
                        prefillScale: Double.random(in: 0.5...2, using: &random),
                        decodeScale: Double.random(in: 0.5...2, using: &random),
                        ttftOffset: Seconds(Double.random(in: -0.02...0.05, using: &random))
                    ),
                    backlog: busy ? Double.random(in: 0...5, using: &random) : 0,
                    batch: busy ? Double.random(in: 0...200, using: &random).rounded() : 0,
                    kvTokens: busy ? Double.random(in: 0...600_000, using: &random) : 0,
                    outstandingTokens: busy ? Double.random(in: 0...60_000, using: &random) : 0,
                    localShare: busy ? Double.random(in: 0...0.9, using: &random) : 0
                )
            )
        }
        let held = (0..<count).map { _ in
            Int.random(in: 0..<4, using: &random) == 0 ? Int.random(in: 0...20_000, using: &random) : 0
        }
        frame = DecisionFrame(
            states: states,
            held: held,
            prefills: states.indices.filter { states[$0].role == .prefill || states[$0].role == .both },
            decodes: states.indices.filter { states[$0].role != .prefill },
            links: KVLinks(
                layouts: [Pods.layout(), Pods.layout(model: "other"), Self.wideLayout],
                connectors: [[], [Self.connector(isLayerwise: false)], [Self.connector(isLayerwise: true)]][
                    Int.random(in: 0..<3, using: &random)
                ],
                network: Bool.random(using: &random)
                    ? .flat
                    : NetworkTopology(
                        betweenRacks: NetworkLink(bytesPerSecond: Double.random(in: 1e8...2e11, using: &random)),
                        betweenZones: NetworkLink(
                            bytesPerSecond: Double.random(in: 1e8...1e10, using: &random),
                            latency: Seconds(Double.random(in: 0...0.1, using: &random))
                        )
                    )
            ),
            surroundings: Surroundings(
                arrivalRate: Double.random(in: 0...3, using: &random),
                ahead: Bool.random(using: &random) ? Double.random(in: 0...3, using: &random) : 0,
                openBelow: Double.random(in: 0...1, using: &random)
            )
        )
        if Int.random(in: 0..<3, using: &random) == 0 {
            frame.stored = (0..<count).map { _ in
                guard Bool.random(using: &random) else { return nil }
                return StoredPrefix(
                    store: SharedStore.id(0),
                    tokens: Int.random(in: 1...20_000, using: &random),
                    bytesPerSecond: Double.random(in: 1e8...2e10, using: &random),
                    latency: Seconds(Double.random(in: 0...0.01, using: &random))
                )
            }
        }
        if Int.random(in: 0..<3, using: &random) == 0 {
            frame.adapters = (0..<count).map { _ in
                guard Bool.random(using: &random) else { return nil }
                return AdapterNeed(state: .slotsFull, delay: Double.random(in: 0...2, using: &random))
            }
        }
        request = RequestFacts(
            id: RequestID(1),
            promptTokens: Int.random(in: 1...30_000, using: &random),
            outputTokens: Int.random(in: 1...2_000, using: &random),
            streams: Bool.random(using: &random),
            serviceLevel: ServiceLevel(
                ttft: Bool.random(using: &random) ? Seconds(Double.random(in: 0.1...4, using: &random)) : nil,
                tpot: Bool.random(using: &random) ? Seconds(Double.random(in: 0.01...0.06, using: &random)) : nil
            ),
            waited: Seconds(Double.random(in: 0...2, using: &random)),
            priceLimit: Int.random(in: 0..<5, using: &random) == 0
                ? Dollars(Double.random(in: 0.001...0.05, using: &random)) : nil
        )
        dials = Mode.allCases[Int.random(in: 0..<3, using: &random)].dials
        settings = CostSettings(
            externality: Bool.random(using: &random) ? 1 : 0,
            tieBand: [0, 0.02, 0.1][Int.random(in: 0..<3, using: &random)],
            reuse: Double.random(in: 0...0.4, using: &random)
        )
        draw = random.next() >> 11
        learnTransfers(&random)
    }

    /// The same KV at other tensor parallelism: what arrives is rearranged.
    private static let wideLayout = KVLayout(
        model: "llama-3.1-70b",
        dtype: "bfloat16",
        blockSize: 16,
        connector: "nixl",
        tensorParallel: 8
    )

    private static func connector(isLayerwise: Bool) -> Connector {
        Connector(
            name: "nixl",
            fixedCost: Seconds(0.02),
            efficiency: 0.7,
            isLayerwise: isLayerwise,
            allowsUnequalTensorParallel: true
        )
    }

    /// What pairs were seen to take beyond what is known of their links, or less: no transfer takes less than none.
    private mutating func learnTransfers(_ random: inout SplitMix64) {
        guard Bool.random(using: &random) else { return }
        for p in frame.prefills {
            for d in frame.decodes where p != d && Bool.random(using: &random) {
                let (sender, receiver) = (frame.states[p], frame.states[d])
                let link = frame.links.link(sender.kvClass, at: sender.place, receiver.kvClass, at: receiver.place)
                guard link.isAllowed else { continue }
                let least = -link.fixedCost.rawValue
                frame.transferCosts[sender.id, receiver.id] = Double.random(in: least...0.1, using: &random)
            }
        }
    }
}

struct DecisionSearchTests {
    /// The pruned search against pricing everything.
    @Test(arguments: 0..<40) func findsWhatTheExhaustiveChoiceFinds(seed: Int) {
        var random = SplitMix64(seed: UInt64(seed) &* 7919)
        var search = DecisionSearch()
        for _ in 0..<25 {
            let prefills = Int.random(in: 0...12, using: &random)
            let decodes = Int.random(in: 0...12, using: &random)
            let it = RandomDecision(&random, prefills: prefills, decodes: decodes)
            let best = search.best(
                for: it.request,
                in: it.frame,
                dials: it.dials,
                settings: it.settings,
                draw: it.draw
            )
            let ranked = search.ranked(
                for: it.request,
                in: it.frame,
                dials: it.dials,
                settings: it.settings,
                draw: it.draw
            )
            let expected = ranked.first.flatMap { $0.ineligible == nil ? $0 : nil }
            #expect(best == expected, "seed \(seed)")
        }
    }

    @Test func everyTermIsFiniteAndNeverNegative() {
        var random = SplitMix64(seed: 99)
        var search = DecisionSearch()
        for _ in 0..<200 {
            let it = RandomDecision(&random, prefills: 4, decodes: 4)
            let ranked = search.ranked(
                for: it.request,
                in: it.frame,
                dials: it.dials,
                settings: it.settings,
                draw: it.draw
            )
            for terms in ranked.map(\.terms) {
                let seconds = [
                    terms.queueing, terms.prefill, terms.pull, terms.transfer, terms.overhead, terms.admission,
                    terms.firstStep, terms.tpot, terms.decode, terms.othersPrefill, terms.othersDecode,
                ]
                let dollars = [
                    terms.time, terms.others, terms.busyPrefill, terms.busyDecode, terms.miss, terms.overflow,
                    terms.eviction, terms.total,
                ]
                #expect(seconds.allSatisfy { $0.rawValue.isFinite && $0 >= .zero })
                #expect(dollars.allSatisfy { $0.rawValue.isFinite && $0 >= .zero })
                #expect((0...1).contains(terms.missProbability) && (0...1).contains(terms.overflowProbability))
                let sum = terms.time + terms.others + terms.busy + terms.miss + terms.overflow + terms.eviction
                #expect(abs(sum.rawValue - terms.total.rawValue) <= 1e-12 * max(sum.rawValue, 1))
            }
        }
    }

    /// With a band of zero the draw has no say.
    @Test func withoutABandTheDrawDoesNotMatter() {
        var random = SplitMix64(seed: 5)
        var search = DecisionSearch()
        for _ in 0..<50 {
            var it = RandomDecision(&random, prefills: 5, decodes: 5)
            it.settings.tieBand = 0
            let chosen = (0..<5).map { draw in
                search.best(
                    for: it.request,
                    in: it.frame,
                    dials: it.dials,
                    settings: it.settings,
                    draw: UInt64(draw) &* 0x1234_5678
                )
            }
            #expect(Set(chosen.map { $0?.placement }).count == 1)
        }
    }
}
