// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// What pickers hear of the fleet, and what goes wrong with it.
extension Simulation {
    /// Reads every pod's load, as a scrape of its metrics page would.
    /// - Returns: true when nothing but loads has changed.
    func scrape() -> Bool {
        let time = Instant(now)
        var isOnlyLoads = true
        askControl()
        for index in endpoints.indices {
            guard isReady[index] else {
                if snapshot.endpoints[index].unavailable != .notReady {
                    snapshot.endpoints[index].unavailable = .notReady
                    isOnlyLoads = false
                }
                continue
            }
            if isDown[index] || isSilent[index] {
                let observed = snapshot.endpoints[index].load?.observedAt.rawValue ?? now
                if now - observed > options.stalenessLimit {
                    snapshot.endpoints[index].load = nil
                    isOnlyLoads = false
                }
                if isDown[index], snapshot.endpoints[index].unavailable == nil {
                    snapshot.endpoints[index].unavailable = .refusesConnections
                    isOnlyLoads = false
                }
                continue
            }
            let load = farm.servers[index].load(at: time)
            if snapshot.endpoints[index].unavailable != nil {
                snapshot.endpoints[index].unavailable = nil
                isOnlyLoads = false
            }
            snapshot.endpoints[index].load = EndpointLoad(
                observedAt: time,
                waiting: load.waiting,
                running: load.running,
                kvUse: load.kvUse
            )
        }
        snapshot.version &+= 1
        return isOnlyLoads
    }

    private func askControl() {
        guard let control else { return }
        let looks = farm.servers.map {
            PodLook(load: $0.load(at: Instant(now)), counters: $0.counters, jobs: $0.jobCount)
        }
        let ready = control.readiness(looks, at: now)
        if ready.count == endpoints.count { isReady = ready }
    }

    /// Requests that end at a pod before its histograms are compared, as `PhaseHistory` of serve does it.
    private static let phasePortion = 8

    /// Tells all pickers how the histograms of the pods that were just scraped have grown.
    func tellPhases() throws(SimulationError) {
        for index in endpoints.indices where !isDown[index] && !isSilent[index] {
            let counters = farm.servers[index].counters
            let before = readCounters[index]
            let ended = counters.finished - before.finished
            guard ended >= Self.phasePortion else { continue }
            readCounters[index] = counters
            let growth = PhaseGrowth(
                prefillSeconds: counters.prefillTime - before.prefillTime,
                prefills: ended,
                decodeSeconds: counters.decodeTime - before.decodeTime,
                decodes: ended
            )
            for picker in policies.indices { try tell(picker, .phasesObserved(endpoints[index].id, growth)) }
        }
    }

    func sample() { series.add(at: now, busy: farm.servers.map { $0.busySeconds(at: now) }) }

    func apply(_ fault: Fault, begins: Bool) throws(SimulationError) {
        switch fault.kind {
        case .crash(let pod):
            guard endpoints.indices.contains(pod) else { return }
            isDown[pod] = begins
            if begins { try crash(pod) }
        case .missingScrapes(let pod):
            if endpoints.indices.contains(pod) { isSilent[pod] = begins }
        case .slow(let pod, let factor):
            if endpoints.indices.contains(pod) { slow(pod, by: begins ? factor : 1 / factor) }
        case .profileOff(let factor):
            for pod in endpoints.indices { slow(pod, by: begins ? factor : 1 / factor) }
        case .pickerRestart(let picker):
            guard begins, policies.indices.contains(picker) else { return }
            try restart(picker)
        }
    }

    private func slow(_ pod: Int, by factor: Double) {
        with(pod) { server, _, _ in server.set(slowness: server.configuration.slowness * factor) }
    }

    private func crash(_ pod: Int) throws(SimulationError) {
        touch(pod)
        let lost = farm.servers[pod].crash()
        dirty.append(pod)
        farm.reported.removeAll(pod: pod)
        for index in prefixes { index.forget(pod: pod) }
        for index in requests.indices where requests[index].state == .sent {
            if Int(requests[index].prefiller) == pod { requests[index].isPendingAtPrefiller = false }
            if Int(requests[index].decoder) == pod { requests[index].isPendingAtDecoder = false }
        }
        for job in lost { try fail(Int(job >> 1), .failed) }
        // What was on the wire to or from the pod is lost with it.
        for transfer in network.transfers where transfer.isActive && (transfer.source == pod || transfer.target == pod)
        {
            try fail(transfer.request, .failed)
        }
    }

    /// The picker comes back knowing nothing. What it held is lost; what it had sent goes on, unseen by it.
    private func restart(_ picker: Int) throws(SimulationError) {
        startPicker(picker, generation: UInt64(now.bitPattern))
        for index in requests.indices where requests[index].picker == picker {
            requests[index].isPendingAtPrefiller = false
            requests[index].isPendingAtDecoder = false
            if requests[index].state == .waiting { try fail(index, .failed) }
        }
        try tell(picker, .fleetChanged(snapshot))
    }

    /// Sends news of cached blocks to the pickers, late or never where the run says so.
    func report(_ hashes: [UInt64], stored: Bool, pod: Int) {
        guard farm.hasReports, !hashes.isEmpty else { return }
        guard reportDraws.uniform() >= options.blockReports.loss else { return }
        let delay = 2 * options.blockReports.meanDelay * reportDraws.uniform()
        delayedReports.append(DelayedReport(pod: pod, stored: stored, hashes: hashes))
        queue.push(at: now + delay, .blockReport, delayedReports.count - 1)
    }

    func deliverReport(_ index: Int) {
        let report = delayedReports[index]
        delayedReports[index].hashes = []
        for hash in report.hashes {
            if report.stored {
                farm.reported.insert(hash, pod: report.pod)
            } else {
                farm.reported.remove(hash, pod: report.pod)
            }
        }
    }
}

/// Busy seconds of each pod at points in time.
package struct UtilisationSeries: Sendable, Hashable {
    package private(set) var times: [Double] = []
    /// Per point: busy seconds so far of each pod, in fleet order.
    package private(set) var busy: [[Double]] = []

    mutating func add(at t: Double, busy seconds: [Double]) {
        times.append(t)
        busy.append(seconds)
    }
}
