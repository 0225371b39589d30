// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Testing

@testable import Router

struct VirtualPodTests {
    private static func job(_ id: UInt64, work: Double, tail: Double = 0.1, at ready: Double = 0, reports: Bool = true)
        -> VirtualPod.Job
    {
        VirtualPod.Job(request: RequestID(id), work: work, tail: tail, reports: reports, readyAt: ready)
    }

    @Test func promptsRunOneAfterAnother() {
        var pod = VirtualPod()
        pod.add(Self.job(1, work: 1), now: 0)
        pod.add(Self.job(2, work: 2), now: 0)
        #expect(pod.backlog(at: 0) == 3)
        pod.advance(to: 0.5)
        #expect(pod.backlog(at: 0.5) == 2.5)
        pod.advance(to: 1.05)
        #expect(abs(pod.backlog(at: 1.05) - 1.95) < 1e-12)
    }

    @Test func aFirstTokenShiftsWhatFollows() {
        var pod = VirtualPod()
        pod.add(Self.job(1, work: 1), now: 0)
        pod.add(Self.job(2, work: 2), now: 0)
        // It ended at 0.6 rather than 1: the second runs until 2.6.
        let first = pod.observe(RequestID(1), end: 0.6, now: 0.7)
        #expect(first?.seconds == 0.6 && first?.wasIdle == true)
        #expect(abs(pod.backlog(at: 0.7) - 1.9) < 1e-12)
    }

    @Test func aLateFirstTokenShiftsToo() {
        var pod = VirtualPod()
        pod.add(Self.job(1, work: 1), now: 0)
        pod.add(Self.job(2, work: 2), now: 0)
        pod.advance(to: 1.4)
        // Overdue since 1.1.
        #expect(abs(pod.backlog(at: 1.4) - (1.6 + 0.3)) < 1e-12)
        let first = pod.observe(RequestID(1), end: 1.4, now: 1.5)
        #expect(first?.seconds == 1.4)
        #expect(abs(pod.backlog(at: 1.5) - 1.9) < 1e-12)
        // The second's service began when the first one's ended.
        let second = pod.observe(RequestID(2), end: 3.0, now: 3.1)
        #expect(abs((second?.seconds ?? 0) - 1.6) < 1e-12)
    }

    @Test func anOvertakenPromptReturnsToTheQueue() {
        var pod = VirtualPod()
        pod.add(Self.job(1, work: 1), now: 0)
        pod.add(Self.job(2, work: 1), now: 0)
        pod.add(Self.job(3, work: 1), now: 0)
        pod.advance(to: 2.9)
        // The pod served 2 first, at 1; the model thought that 1 had ended then.
        _ = pod.observe(RequestID(2), end: 2.8, now: 2.9)
        #expect(pod.count == 2)
        #expect(pod.backlog(at: 2.9) > 1)
    }

    @Test func silentAnswersEndByTheModel() {
        var pod = VirtualPod()
        pod.add(Self.job(1, work: 1, reports: false), now: 0)
        pod.advance(to: 1.1)
        #expect(pod.isEmpty)
    }

    @Test func lostPromptsAreGivenUp() {
        var pod = VirtualPod()
        pod.add(Self.job(1, work: 1), now: 0)
        pod.advance(to: 8)
        #expect(pod.backlog(at: 8) == 1.3)
        pod.advance(to: 9.1)
        #expect(pod.isEmpty && pod.backlog(at: 9.1) == 0)
    }

    @Test func aCancelledPromptMakesRoom() {
        var pod = VirtualPod()
        for id in 1...3 { pod.add(Self.job(UInt64(id), work: 1), now: 0) }
        pod.remove(RequestID(2), now: 0.5)
        #expect(abs(pod.backlog(at: 0.5) - 1.5) < 1e-12)
        pod.remove(RequestID(1), now: 0.5)
        #expect(abs(pod.backlog(at: 0.5) - 1) < 1e-12)
        pod.remove(RequestID(77), now: 0.5)
        pod.remove(RequestID(3), now: 0.5)
        #expect(pod.isEmpty)
    }
}

struct DecodeBatchTests {
    @Test func tokensGrowWithTheClock() {
        var batch = DecodeBatch()
        batch.setStep(0.01, batch: 3, kvTokens: 2000)
        batch.assign(prompt: 1000, output: 100)
        let tick = batch.join(prompt: 1000, in: 0)
        batch.advance(to: 0.5)
        #expect(abs(batch.producedTokens - 50) < 1e-9)
        #expect(abs(batch.batchSum - 150) < 1e-9 && abs(batch.tokenSum - 100_000) < 1e-6)
        #expect(abs(batch.kvTokens - 1050) < 1e-9)
        #expect(abs(batch.outstandingTokens - 50) < 1e-9)
        batch.release(prompt: 1000, output: 100, joinedAt: tick)
        #expect(batch.kvTokens == 0 && batch.outstandingTokens == 0 && batch.assigned == 0)
    }
}
