// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Testing

@testable import Kubernetes

@Suite("The log of a cluster's trouble")
struct TroubleLogTests {
    /// A watch of pods, what is logged of it, and a server that answers in a way of its own.
    private struct Scene {
        var rig = ResourceWatchTests.Rig()
        var log = TroubleLog(calm: WatchSettings().longestRetry.rawValue + 1)
        var lines: [TroubleLog.Line] = []
        var requests = 0

        mutating func note() {
            let report = WatchReport(
                kind: "pods",
                standing: rig.watch.standing,
                isSynced: rig.watch.isSynced,
                counts: rig.watch.counts,
                invalid: [:],
                isOptional: false
            )
            lines += log.update(ClusterState(), [report], at: rig.now)
        }

        mutating func run(
            seconds: Double,
            _ answer: (inout ResourceWatchTests.Rig, _ isWatch: Bool, _ turn: Int) -> Void
        ) {
            let end = rig.now + seconds
            while rig.now < end {
                if let request = rig.request() {
                    answer(&rig, request.query.contains { $0.name == "watch" }, requests)
                    requests += 1
                }
                note()
                rig.now += 0.1
            }
        }
    }

    /// Every way in which a server can fail, one after the other.
    private static func fail(_ rig: inout ResourceWatchTests.Rig, _ turn: Int) {
        switch turn % 5 {
        case 0: rig.end(500)
        case 1:
            rig.receive("<html>busy \(turn)</html>\n")
            rig.end(200)
        case 2: rig.end(0, .connectionLost)
        case 3: rig.end(0, .unreachable("refused"))
        default: rig.end(503, retryAfter: 1)
        }
    }

    @Test("Ten minutes of failures of every kind are one line, and their end another")
    func minutes() {
        var scene = Scene()
        scene.rig.list(["a"])
        scene.run(seconds: 600) { rig, _, turn in Self.fail(&rig, turn) }
        #expect(scene.requests > 15)
        // What was known still counts.
        #expect(scene.rig.names == ["a"])
        #expect(scene.rig.watch.standing.isTrouble)
        #expect(scene.lines == [.began(what: "the Kubernetes API", trouble: "pods: answered 500")])
        scene.run(seconds: 120) { rig, isWatch, _ in
            if isWatch {
                rig.receive("")
            } else {
                rig.receive(ResourceWatchTests.page(["a", "b"], version: "300"))
                rig.end()
            }
        }
        #expect(scene.rig.names == ["a", "b"])
        #expect(scene.lines.dropFirst() == [.ended(what: "the Kubernetes API")])
        #expect(scene.log.nextWake == .infinity)
    }

    @Test("Lists that are good and watches that are garbage, for ten minutes, are no flood")
    func watchesFail() {
        var scene = Scene()
        scene.run(seconds: 600) { rig, isWatch, turn in
            if isWatch {
                Self.fail(&rig, turn)
            } else {
                rig.receive(ResourceWatchTests.page(["a"], version: "300"))
                rig.end()
            }
        }
        #expect(scene.requests > 15)
        #expect(scene.rig.names == ["a"])
        #expect(scene.lines.count == 1, "\(scene.lines)")
    }

    @Test("What is no failure is over at once")
    func atOnce() {
        var log = TroubleLog(calm: 30)
        var state = ClusterState()
        state.pools = [ClusterState.Pool(name: "p", trouble: "no InferencePool p")]
        #expect(log.update(state, [], at: 0) == [.began(what: "pool p", trouble: "no InferencePool p")])
        #expect(log.update(state, [], at: 1) == [])
        state.pools = [ClusterState.Pool(name: "p")]
        #expect(log.update(state, [], at: 2) == [.ended(what: "pool p")])
    }

    @Test("Another kind of trouble is said")
    func another() {
        var scene = Scene()
        scene.run(seconds: 5) { rig, _, _ in rig.end(500) }
        scene.run(seconds: 60) { rig, _, _ in rig.end(403) }
        #expect(scene.lines.count == 3)
        guard case .began("pods", let trouble) = scene.lines[1] else {
            Issue.record("\(scene.lines)")
            return
        }
        #expect(trouble.hasPrefix("denied"))
        // The server does answer.
        #expect(scene.lines[2] == .ended(what: "the Kubernetes API"))
    }

    @Test("A server that is lost is one line for all that is needed, and one for the rest")
    func lost() {
        func report(_ kind: String, optional: Bool, _ standing: WatchStanding) -> WatchReport {
            WatchReport(
                kind: kind,
                standing: standing,
                isSynced: true,
                counts: WatchCounts(),
                invalid: [:],
                isOptional: optional
            )
        }
        var log = TroubleLog(calm: 30)
        let kinds = [("pools", false), ("pods", false), ("nodes", true), ("objectives", true), ("rewrites", true)]
        var lines: [TroubleLog.Line] = []
        // They notice one after the other, the needed ones last.
        for count in 1...kinds.count {
            let reports = kinds.enumerated().map { place, kind in
                report(kind.0, optional: kind.1, place >= kinds.count - count ? .failing(.connectionLost) : .live)
            }
            lines += log.update(ClusterState(), reports, at: Double(count))
        }
        #expect(
            lines == [
                .began(
                    what: "the Kubernetes API, for what can be done without",
                    trouble: "rewrites: the connection was lost"
                ), .began(what: "the Kubernetes API", trouble: "pods: the connection was lost"),
            ]
        )
        let well = kinds.map { report($0.0, optional: $0.1, .live) }
        #expect(log.update(ClusterState(), well, at: 10) == [])
        #expect(log.update(ClusterState(), well, at: 41).count == 2)
    }
}
