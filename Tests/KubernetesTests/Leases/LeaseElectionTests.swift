// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation
import TestSupport
import Testing

@testable import Kubernetes

/// The lease as an API server keeps it: one object, versions, 409 for a write against an older one.
private struct LeaseStore {
    var lease: Lease?
    var version = 273
    var isUp = true
    var holders: [String] = []

    mutating func answer(_ request: LeaseElection.Request) -> LeaseElection.Answer {
        guard isUp else { return .failed("unreachable") }
        switch request {
        case .read: return lease.map { .lease($0) } ?? .absent
        case .create(let new):
            guard lease == nil else { return .conflict }
            return write(new)
        case .replace(let new):
            guard let lease else { return .absent }
            guard new.resourceVersion == lease.resourceVersion else { return .conflict }
            return write(new)
        }
    }

    private mutating func write(_ new: Lease) -> LeaseElection.Answer {
        version += 1
        var written = new
        written.resourceVersion = "\(version)"
        if holders.last != new.holder { holders.append(new.holder) }
        lease = written
        return .lease(written)
    }
}

private struct Replica {
    var election: LeaseElection
    var isAlive = true
    /// An answer on its way, and when it comes.
    var pending: (answer: LeaseElection.Answer, at: Double)?
    var ledSince: Double?

    init(_ name: String, at now: Double = 0) {
        election = LeaseElection(identity: name, name: "epp", namespace: "default", at: Instant(now))
    }

    mutating func step(_ store: inout LeaseStore, at now: Double, latency: Double) {
        guard isAlive else { return }
        if let pending, pending.at <= now {
            self.pending = nil
            election.answered(pending.answer, at: Instant(now))
            ledSince = election.isLeader ? ledSince ?? now : nil
        }
        guard pending == nil, election.nextAt.rawValue <= now else { return }
        pending = (store.answer(election.request(time: MicroTime.text(Int64(now * 1e6)))), now + latency)
    }
}

@Suite struct LeaseElectionTests {
    /// Steps both replicas through `seconds` of 10 ms; `each` may change the world.
    private func run(
        _ replicas: inout [Replica],
        _ store: inout LeaseStore,
        from start: Double = 0,
        seconds: Double,
        latency: Double = 0.02,
        each: (Double, inout [Replica], inout LeaseStore) -> Void = { _, _, _ in }
    ) {
        for step in 0..<Int(seconds * 100) {
            let now = start + Double(step) / 100
            for index in replicas.indices { replicas[index].step(&store, at: now, latency: latency) }
            each(now, &replicas, &store)
        }
    }

    @Test("One of two leads, soon, and stays", arguments: [0.0, 0.02, 0.3])
    func oneLeads(latency: Double) {
        var replicas = [Replica("a"), Replica("b")]
        var store = LeaseStore()
        run(&replicas, &store, seconds: 60, latency: latency) { now, replicas, _ in
            let leaders = replicas.count { $0.election.isLeader }
            #expect(leaders <= 1, "at \(now)")
            if now > 1.5 { #expect(leaders == 1, "at \(now)") }
        }
        #expect(store.holders.count == 1)
        #expect(store.lease?.transitions == 0)
    }

    @Test("After a crash the other leads within three seconds, wherever in the cycle it comes", arguments: 0..<20)
    func takeover(phase: Int) {
        var replicas = [Replica("a"), Replica("b")]
        var store = LeaseStore()
        run(&replicas, &store, seconds: 5 + Double(phase) * 0.03)
        let crash = 5 + Double(phase) * 0.03
        let leader = replicas.firstIndex { $0.election.isLeader } ?? 0
        replicas[leader].isAlive = false
        replicas[leader].pending = nil
        run(&replicas, &store, from: crash, seconds: 4)
        let taken = replicas[1 - leader].ledSince ?? .infinity
        #expect(taken - crash <= 3, "after \(taken - crash) s")
        #expect(taken - crash >= 1, "it took a lease that had not expired")
        #expect(store.lease?.transitions == 1)
    }

    @Test("A lease that is given up is taken at the next look")
    func release() {
        var replicas = [Replica("a"), Replica("b")]
        var store = LeaseStore()
        run(&replicas, &store, seconds: 5)
        let leader = replicas.firstIndex { $0.election.isLeader } ?? 0
        let request = replicas[leader].election.release(time: MicroTime.text(5_000_000))
        if let request { _ = store.answer(request) }
        replicas[leader].isAlive = false
        #expect(request != nil && !replicas[leader].election.isLeader)
        run(&replicas, &store, from: 5, seconds: 1)
        #expect((replicas[1 - leader].ledSince ?? .infinity) <= 5.4)
        #expect(replicas[1 - leader].election.release(time: "") != nil)
        #expect(replicas[leader].election.release(time: "") == nil)
    }

    @Test("Without the API server the leader goes on, and no follower takes over")
    func serverIsDown() {
        var replicas = [Replica("a"), Replica("b")]
        var store = LeaseStore()
        run(&replicas, &store, seconds: 5)
        let leader = replicas.firstIndex { $0.election.isLeader } ?? 0
        run(&replicas, &store, from: 5, seconds: 60) { now, replicas, store in
            store.isUp = !(5...55).contains(now)
            if now < 55 {
                #expect(replicas[leader].election.isLeader && !replicas[1 - leader].election.isLeader, "at \(now)")
            }
        }
        #expect(replicas.count { $0.election.isLeader } == 1)
    }

    @Test("Who was cut off and comes back finds the other one leading, and follows")
    func cutOff() {
        var replicas = [Replica("a"), Replica("b")]
        var store = LeaseStore()
        run(&replicas, &store, seconds: 5)
        let leader = replicas.firstIndex { $0.election.isLeader } ?? 0
        replicas[leader].isAlive = false
        run(&replicas, &store, from: 5, seconds: 5)
        replicas[leader].isAlive = true
        run(&replicas, &store, from: 10, seconds: 3)
        #expect(!replicas[leader].election.isLeader && replicas[1 - leader].election.isLeader)
        #expect(replicas[leader].election.holder == replicas[1 - leader].election.identity)
    }

    @Test("A lease that was deleted, or that nobody filled in, is made anew")
    func deleted() {
        var replicas = [Replica("a"), Replica("b")]
        var store = LeaseStore()
        run(&replicas, &store, seconds: 5)
        store.lease = nil
        run(&replicas, &store, from: 5, seconds: 3)
        #expect(replicas.count { $0.election.isLeader } == 1)
        store.lease = Lease(name: "epp", namespace: "default", resourceVersion: "9000")
        run(&replicas, &store, from: 8, seconds: 3)
        #expect(replicas.count { $0.election.isLeader } == 1)
    }

    @Test("After faults at every kind of request one leads", arguments: UInt64(1)...30)
    func faults(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var replicas = [Replica("a"), Replica("b"), Replica("c")]
        var store = LeaseStore()
        for step in 0..<6000 {
            let now = Double(step) / 100
            // Each second brings another fault, or none.
            if step % 100 == 0 { store.isUp = step > 5000 || Int.random(in: 0..<4, using: &random) > 0 }
            for index in replicas.indices {
                replicas[index].step(&store, at: now, latency: Double.random(in: 0...0.2, using: &random))
                // An answer is lost: the write may have happened all the same.
                if step < 5000, replicas[index].pending != nil, Int.random(in: 0..<200, using: &random) == 0 {
                    replicas[index].pending?.answer = .failed("the connection was lost")
                }
            }
        }
        #expect(replicas.count { $0.election.isLeader } == 1, "seed \(seed)")
    }
}

@Suite struct LeaseTests {
    @Test("Reads what a real API server writes")
    func fixture() throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Fixtures/Kubernetes")
        let body = try Data(contentsOf: folder.appending(path: "lease_put_y.txt"))
        let lease = try #require(Lease(json: Array(body)))
        #expect(lease == Lease(name: "epp", namespace: "default", resourceVersion: "274", holder: "y"))
        let refused = try Data(contentsOf: folder.appending(path: "lease_put_z.txt"))
        #expect(Lease(json: Array(refused)) == nil)
        #expect(LeaseElection.Answer(KubernetesResponse(status: 409, body: Array(refused))) == .conflict)
    }

    @Test("What is written is read again")
    func roundTrip() {
        let lease = Lease(
            name: "epp",
            namespace: "ns",
            resourceVersion: "7",
            holder: "pod_1",
            durationSeconds: 2,
            acquireTime: MicroTime.text(1_763_677_526_123_456),
            renewTime: MicroTime.text(1_763_677_526_123_456),
            transitions: 3
        )
        #expect(Lease(json: lease.json) == lease)
        #expect(lease.renewTime == "2025-11-20T22:25:26.123456Z")
        #expect(MicroTime.text(0) == "1970-01-01T00:00:00.000000Z")
        #expect(MicroTime.text(951_782_400_000_000) == "2000-02-29T00:00:00.000000Z")
        #expect(MicroTime.text(-1) == "1969-12-31T23:59:59.999999Z")
    }
}
