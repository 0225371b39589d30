// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@testable import Router

struct PeersTests {
    private static func pair() -> (Story, Story) {
        (
            Story(Pods.mixed, options: RouterOptions(picker: 1, sharesWork: true), seed: 1),
            Story(Pods.mixed, options: RouterOptions(picker: 2, sharesWork: true), seed: 2)
        )
    }

    @Test func aPeersWorkIsInTheLedgerUntilItEnds() {
        var (one, two) = Self.pair()
        for id in 1...20 as ClosedRange<UInt64> { _ = one.decide(Pods.request(id, prompt: 8000)) }
        for notice in one.router.takeNotices() { _ = two.send(.peer(notice)) }
        let (own, other) = (one.router.summary(at: Instant(0)), two.router.summary(at: Instant(0)))
        for (a, b) in zip(own.endpoints, other.endpoints) {
            // The peer need not wait for the control delay, the rest is the same.
            #expect(abs(a.backlog.rawValue - b.backlog.rawValue) < 0.02 && a.batch == b.batch)
        }
        #expect(other.endpoints.contains { $0.backlog > Seconds(0.1) })
        for id in 1...20 as ClosedRange<UInt64> {
            _ = one.send(.firstToken(RequestID(id)), after: 0.1)
            one.end(id)
        }
        for notice in one.router.takeNotices() { _ = two.send(.peer(notice)) }
        #expect(two.router.ledgers.allSatisfy { $0.isIdle } && two.router.peers.isEmpty)
    }

    @Test func noticesInAnyOrderLeaveTheLedgerSane() {
        var random = SplitMix64(seed: 11)
        var (one, two) = Self.pair()
        var notices: [PeerNotice] = []
        for id in 1...60 as ClosedRange<UInt64> {
            _ = one.decide(Pods.request(id, streams: Bool.random(using: &random)), after: 0.05)
            if Bool.random(using: &random) { _ = one.send(.firstToken(RequestID(id))) }
            if Bool.random(using: &random) { one.end(id) }
            notices += one.router.takeNotices()
        }
        for notice in (notices + notices).shuffled(using: &random) {
            _ = two.send(.peer(notice), after: 0.01)
            let isSane = two.router.ledgers.allSatisfy {
                $0.decodes.assigned >= 0 && $0.decodes.kvTokens >= 0 && $0.promptTokens >= 0
            }
            #expect(isSane)
        }
        // What never ends is forgotten.
        let late = PeerNotice(key: PeerNotice.Key(picker: 9, request: RequestID(1)), event: notices[0].event)
        _ = two.send(.peer(late), after: 700)
        #expect(two.router.peers.count <= 1)
    }

    @Test func ownNoticesAreIgnored() {
        var (one, _) = Self.pair()
        _ = one.decide(Pods.request(1))
        for notice in one.router.takeNotices() { _ = one.send(.peer(notice)) }
        #expect(one.router.peers.isEmpty)
    }

    @Test func withoutSharingNothingIsTold() {
        var story = Story(Pods.mixed)
        _ = story.decide(Pods.request(1))
        #expect(story.router.takeNotices().isEmpty)
    }
}

struct DialControlTests {
    private static func run(_ target: ControlTarget, met: Bool, dollars: Double, minutes: Int) -> DialControl {
        var control = DialControl(target)
        for second in 0..<(minutes * 60) {
            control.ended(isMet: met, dollars: Dollars(dollars), at: Instant(Double(second)))
        }
        return control
    }

    @Test func overspendingMakesTimeCheaper() {
        #expect(Self.run(.dollarsPerRequest(Dollars(0.01)), met: true, dollars: 0.02, minutes: 5).factor < 0.2)
        #expect(Self.run(.dollarsPerRequest(Dollars(0.01)), met: true, dollars: 0.002, minutes: 5).factor > 2)
        let onTarget = Self.run(.dollarsPerRequest(Dollars(0.01)), met: true, dollars: 0.01, minutes: 5).factor
        #expect(abs(onTarget - 1) < 1e-9)
    }

    @Test func missesMakeTimeDearer() {
        #expect(Self.run(.attainment(0.99), met: false, dollars: 0, minutes: 3).factor >= 4)
        #expect(Self.run(.attainment(0.99), met: true, dollars: 0, minutes: 3).factor < 1)
    }

    @Test func theFactorIsBounded() {
        #expect(Self.run(.attainment(0.99), met: false, dollars: 0, minutes: 60).factor == 100)
        #expect(Self.run(.dollarsPerRequest(Dollars(0)), met: true, dollars: 1e9, minutes: 60).factor == 0.01)
        #expect(Self.run(.dollarsPerRequest(Dollars(1)), met: true, dollars: .nan, minutes: 60).factor <= 100)
    }

    @Test func decisionsSeeTheSteeredDials() {
        var options = RouterOptions(control: .dollarsPerRequest(Dollars(1e-6)))
        options.recordedShare = 1
        var story = Story(Pods.mixed, options: options)
        for id in 1...200 as ClosedRange<UInt64> {
            _ = story.decide(Pods.request(id), after: 1)
            _ = story.send(.firstToken(RequestID(id)))
            story.end(id)
        }
        let records = story.router.takeRecords()
        let (first, last) = (records.first?.input.dials.valueOfTime, records.last?.input.dials.valueOfTime)
        #expect((last ?? 1) < (first ?? 0) / 3)
        #expect(story.router.summary(at: Instant(story.now)).classes.first?.dials.valueOfTime == last)
        #expect(records.allSatisfy { $0.replays })
    }
}

struct CalibrationTests {
    /// A pod twice as slow as its profile: the predictions follow.
    @Test func predictionsFollowASlowPod() throws {
        var story = Story(Pods.snapshot([Pods.endpoint(1, .both)]))
        var errors: [Double] = []
        for id in 1...120 as ClosedRange<UInt64> {
            guard let decision = story.decide(Pods.request(id, prompt: 4000 + Int(id) * 10, output: 101), after: 5)
            else { return }
            let predicted = decision.predictedTTFT.rawValue
            let plain = Pods.h100.prefill.duration(newTokens: 4000 + Int(id) * 10, cachedTokens: 0).rawValue
            let seen = 0.03 + 2 * plain
            _ = story.send(.firstToken(RequestID(id)), after: seen)
            let step = 2 * Pods.h100.decode.step(batch: 1, kvTokens: 4100).rawValue
            let outcome = Outcome(kind: .completed, promptTokens: 4000 + Int(id) * 10, outputTokens: 101)
            _ = story.send(.ended(RequestID(id), outcome), after: step * 100)
            errors.append(abs(predicted / seen - 1))
        }
        let after = errors.suffix(20).reduce(0, +) / 20
        #expect((errors.first ?? 0) > 0.3 && after < 0.1, "\(errors.first ?? 0) \(after)")
        // By its scale, or by factors of its configuration and what they leave to the scale.
        let state = story.router.frame.states[0]
        let step = state.calibration.decodeScale * state.profile.decode.step(batch: 1, kvTokens: 4100).rawValue
        #expect(abs(step / Pods.h100.decode.step(batch: 1, kvTokens: 4100).rawValue - 2) < 0.15)
    }

    @Test func histogramsTeachThePhases() {
        var story = Story(Pods.snapshot([Pods.endpoint(1, .prefill), Pods.endpoint(2, .decode, Pods.a100)]))
        for round in 0..<40 as Range<UInt64> {
            var work = 0.0
            for id in (round * 3 + 1)...(round * 3 + 3) {
                let decision = story.decide(Pods.request(id, prompt: 20_000), after: 4)
                if decision?.placement.prefiller == EndpointID(1) {
                    work += Pods.h100.prefill.duration(newTokens: 20_000, cachedTokens: 0).rawValue
                }
                _ = story.send(.firstToken(RequestID(id)), after: 2)
                story.end(id)
            }
            let count = Int((work / 1.17).rounded())
            let growth = PhaseGrowth(prefillSeconds: Seconds(1.5 * work), prefills: count)
            _ = story.send(.phasesObserved(EndpointID(1), growth))
        }
        let scale = story.router.summary(at: Instant(story.now)).endpoints[0].calibration.prefillScale
        #expect(abs(scale - 1.5) < 0.3, "\(scale)")
    }

    @Test func learnedStateSurvivesARestart() {
        var story = Story(Pods.mixed)
        let configuration = Pods.endpoint(77, .prefill).configuration
        var saved = PodCalibrator(profile: Pods.h100, configuration: configuration)
        for _ in 0..<100 {
            saved.observePrefill(predicted: Seconds(1), observed: Seconds(2), newTokens: 1000, at: Instant(0))
        }
        story.router.restore(CalibrationState(pods: ["prefill-1": saved, "prefill-77": saved]))
        let scales = story.router.summary(at: Instant(0)).endpoints.map(\.calibration.prefillScale)
        #expect(scales[0] > 1.9 && scales[1] == 1)
        #expect(story.router.calibrationState.pods["prefill-77"] == saved)
        _ = story.send(.fleetChanged(Pods.snapshot([Pods.endpoint(77, .prefill), Pods.endpoint(6, .decode)])))
        #expect(story.router.calibratorsByName.first { $0.name == "prefill-77" }?.calibrator == saved)
    }

    @Test("What was learned of another configuration, or too long ago, is not used")
    func learnedStateIsForgotten() {
        var story = Story(Pods.mixed)
        let other = PodCalibrator(profile: Pods.h100, configuration: "other/model")
        story.router.restore(CalibrationState(pods: ["prefill-77": other, "prefill-78": other]))
        #expect(story.router.calibrationState.pods["prefill-77"] == other)
        _ = story.send(.fleetChanged(Pods.snapshot([Pods.endpoint(77, .prefill), Pods.endpoint(6, .decode)])))
        #expect(story.router.calibratorsByName.first { $0.name == "prefill-77" }?.calibrator != other)
        _ = story.send(.fleetChanged(Pods.mixed), after: RestoredCalibrators.lifetime.rawValue + 1)
        #expect(story.router.calibrationState.pods["prefill-78"] == nil)
    }

    @Test("A pod that comes back as something else starts anew")
    func reconfiguredPodsStartAnew() {
        var story = Story(Pods.mixed)
        var changed = Pods.mixed
        changed.version += 1
        changed.endpoints[0].endpoint.configuration = "other/model"
        _ = story.send(.fleetChanged(changed))
        #expect(story.router.calibratorsByName[0].calibrator.configuration == "other/model")
    }

    @Test func aDegradedPodIsJudgedByItsQueue() {
        var story = Story(Pods.snapshot([Pods.endpoint(1, .both), Pods.endpoint(2, .both)]))
        story.router.frame.update(0) { $0.calibration.isDegraded = true }
        for id in 1...10 as ClosedRange<UInt64> { _ = story.decide(Pods.request(id, prompt: 8000)) }
        let summary = story.router.summary(at: Instant(story.now))
        let prompts = Double(story.router.ledgers[0].prompts.count)
        #expect(summary.endpoints[0].backlog == Seconds(prompts * story.router.meanWork))
    }
}
