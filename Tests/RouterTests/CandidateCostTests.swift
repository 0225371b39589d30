// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Testing

@testable import Router

/// Costs worked out by hand, with round numbers.
struct CandidateCostTests {
    /// Prefill 1 ms/token, step 10 ms + 1 ms/sequence, one dollar per 100 s, 1 MB of KV per token over 1 GB/s.
    private static let plain = PodProfile(
        prefill: PrefillCoefficients(
            knee: 0,
            base: 0,
            perTokenBelowKnee: 0,
            perTokenAboveKnee: 0.001,
            perPair: 0,
            perContextToken: 0
        ),
        decode: DecodeCoefficients(
            knee: 1e9,
            base: 0.010,
            perSequenceBelowKnee: 0.001,
            perSequenceAboveKnee: 0.001,
            perKVToken: 0
        ),
        mixed: StepCoefficients(
            knee: 0,
            base: 0,
            perTokenBelowKnee: 0,
            perTokenAboveKnee: 0.001,
            perPair: 0,
            perSequence: 0.001,
            perKVToken: 0
        ),
        ttftOverhead: Seconds(0.020),
        prefillError: 0.1,
        decodeError: 0.1,
        kvBytesPerToken: 1e6,
        kvCapacityTokens: 100_000,
        layers: 1,
        networkBytesPerSecond: 1e9,
        memoryBytesPerSecond: 1e12,
        dollarsPerSecond: 0.01,
        source: .fitted
    )

    private static func frame(decodeBatch: Double = 0, backlog: Double = 0, held: [Int] = [0, 0]) -> DecisionFrame {
        DecisionFrame(
            states: [
                PodState(id: EndpointID(1), role: .prefill, profile: plain, backlog: backlog),
                PodState(
                    id: EndpointID(2),
                    role: .decode,
                    profile: plain,
                    batch: decodeBatch,
                    kvTokens: decodeBatch * 100,
                    outstandingTokens: decodeBatch * 50
                ),
            ],
            held: held,
            prefills: [0],
            decodes: [1],
            links: KVLinks(layouts: [Pods.layout()], connectors: [])
        )
    }

    private static func candidates(_ frame: DecisionFrame, level: ServiceLevel = ServiceLevel()) -> [Candidate] {
        var search = DecisionSearch()
        return search.ranked(
            for: RequestFacts(id: RequestID(1), promptTokens: 1000, outputTokens: 101, serviceLevel: level),
            in: frame,
            dials: Dials(valueOfTime: 0.1, sloMissPrice: Dollars(2)),
            settings: CostSettings(externality: 0, tieBand: 0),
            draw: 0
        )
    }

    @Test func aPairOnAnIdleFleet() throws {
        let pair = try #require(Self.candidates(Self.frame()).first { $0.placement.prefiller == EndpointID(1) })
        let terms = pair.terms
        #expect(terms.prefill == Seconds(1))
        // 1000 tokens × 1 MB ÷ 1 GB/s + 10 ms of an unknown connector, sent at the end.
        #expect(abs(terms.transfer.rawValue - 1.010) < 1e-12)
        #expect(terms.overhead == Seconds(0.020))
        // Alone in the batch: 10 + 1 ms.
        #expect(abs(terms.firstStep.rawValue - 0.011) < 1e-12)
        #expect(abs(terms.decode.rawValue - 1.1) < 1e-12)
        #expect(abs(terms.ttft.rawValue - 2.041) < 1e-12)
        // 0.1 $/s × (2.041 + 0.15 × 1.1).
        #expect(abs(terms.time.rawValue - 0.2206) < 1e-12)
        #expect(abs(terms.busyPrefill.rawValue - 0.01) < 1e-12)
        // 101 tokens × 11 ms, alone, × 0.01 $/s.
        #expect(abs(terms.busyDecode.rawValue - 0.01111) < 1e-12)
        #expect(terms.others == .zero && terms.miss == .zero && terms.overflow == .zero)
    }

    @Test func localPrefillNeedsNoTransferAndStallsTheOthers() throws {
        let local = try #require(
            Self.candidates(Self.frame(decodeBatch: 10)).first { $0.placement == .local(EndpointID(2)) }
        )
        let terms = local.terms
        #expect(terms.transfer == .zero && terms.firstStep == .zero)
        // One step of 1000 + 10 tokens at 1 ms each, and 1 ms for each of ten sequences.
        #expect(abs(terms.prefill.rawValue - 1.020) < 1e-12)
        // Ten sequences stand still but for one of their 20 ms steps; then each of 50 steps takes 1 ms more.
        let stalled = 10 * (1.020 - 0.020)
        let slowed = 0.001 * 10 * 50.0
        #expect(abs(terms.othersDecode.rawValue - (stalled + slowed)) < 1e-9)
        #expect(abs(terms.others.rawValue - 0.1 * 0.15 * (stalled + slowed)) < 1e-9)
    }

    @Test func whatIsCachedIsNeitherComputedNorMoved() throws {
        let pair = try #require(
            Self.candidates(Self.frame(held: [600, 900])).first { $0.placement.prefiller == EndpointID(1) }
        )
        #expect(abs(pair.terms.prefill.rawValue - 0.4) < 1e-12)
        #expect(abs(pair.terms.transfer.rawValue - 0.110) < 1e-12)
        #expect(pair.cachedTokens == 600)
    }

    /// A bound right at the calibrated 90 % quantile is missed one time in ten.
    @Test func aMissIsPricedByItsProbability() throws {
        // 90 % margin: 0.2 × (backlog 1 + prefill 1) = 0.4 s beyond the mean of 3.041 s.
        let bound = ServiceLevel(ttft: Seconds(3.441))
        let pair = try #require(
            Self.candidates(Self.frame(backlog: 1), level: bound).first { $0.placement.prefiller == EndpointID(1) }
        )
        #expect(abs(pair.terms.missProbability - 0.1) < 1e-3)
        #expect(abs(pair.terms.miss.rawValue - 0.2) < 2e-3)
    }

    @Test func theGuardKeepsPromptsOffBusyDecodePods() {
        // A prompt of 1 s in a window of 5 s stretches steps of 21 ms to 26 ms.
        func reason(_ limit: Double) -> Ineligibility?? {
            Self.candidates(Self.frame(decodeBatch: 10), level: ServiceLevel(tpot: Seconds(limit)))
                .first { $0.placement == .local(EndpointID(2)) }.map(\.ineligible)
        }
        #expect(reason(0.028) == .some(.tpotGuard))
        #expect(reason(0.031) == .some(nil))
    }
}
