// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router

/// How the fleets of a plan are gone through: thousands of them, for a hundred runs.
///
/// Most need no run. The fluid bound says that they cannot carry the load, even if the share of requests that may miss
/// needs no service at all. The bound is generous, and how generous differs with what the fleet is made of; so how much
/// room a fleet must have above it is learned for each kind (`FleetKind`): a fleet with no more room than one of its kind
/// that failed is taken to fail too.
///
/// Climb: in the order of price, with a step more room asked after each failure, until a fleet holds. Then
/// halve: of the cheaper ones that were skipped, the cheapest in the upper half of a kind by room is run; where it fails
/// the lower half is out, where it holds the upper half is dearer. Both once more for the runner-up.
struct FleetSearch {
    private let plan: FleetPlan
    private let workload: Workload
    /// Prompt tokens of each request that an infinite cache holds.
    private let cached: [Int]
    private var heap = PriceHeap()
    private var seen: Set<FleetMix> = []
    /// Within the bound and not run, by price.
    private var open: [Fleet] = []
    /// The most room with which a fleet of the kind failed.
    private var failedRoom: [FleetKind: Double] = [:]
    /// By price; of equals the one that was found first.
    private var holding: [FleetPlan.Judged] = []
    private var failures: [FleetPlan.Judged] = []
    private(set) var result = FleetPlan.Result()

    private struct Fleet {
        var mix: FleetMix
        var price: Double
        var room: Double
        var kind: FleetKind
    }

    /// While no fleet is known to hold, the next to be run has so many times the room of the one that failed.
    private static let climbStep = 1.25
    /// Fleets that are looked at before the search gives up.
    static let mostMixes = 200_000

    init(_ plan: FleetPlan) {
        self.plan = plan
        workload = plan.experiment.workload.scaled(load: plan.load, seed: plan.seeds.first ?? 1)
        cached = Bounds.infiniteCache(workload)
        for mix in FleetMix.smallest(choices: plan.choices.count) { add(mix) }
    }

    mutating func run(_ progress: (FleetPlan.Result) -> Void) throws(SimulationError) {
        // The cheapest, then the runner-up.
        for place in 0..<2 {
            try climb(to: place, progress)
            while hasRuns, let next = middle(below: place) { try judge(open.remove(at: next), progress) }
            let isOpen = holding.count <= place ? !heap.isEmpty || !open.isEmpty : middle(below: place) != nil
            guard !hasRuns, isOpen else { continue }
            if place == 0 { result.mayBeCheaper = true } else { result.mayHaveOthers = true }
        }
        result.best = holding.first
        result.runnerUp = holding.dropFirst().first
        let limit = result.best?.dollarsPerHour ?? .infinity
        result.failed = failures.filter { $0.dollarsPerHour <= limit }.max { $0.dollarsPerHour < $1.dollarsPerHour }
    }

    private var hasRuns: Bool { result.runs < plan.maximumRuns }

    private mutating func add(_ mix: FleetMix) {
        guard seen.insert(mix).inserted else { return }
        heap.insert(mix, price: mix.dollarsPerHour(plan.choices))
    }

    private mutating func climb(to place: Int, _ progress: (FleetPlan.Result) -> Void) throws(SimulationError) {
        var wanted = 1.0
        while holding.count <= place, hasRuns, let fleet = nextInPrice() {
            guard fleet.room >= wanted, !isRuledOut(fleet) else {
                open.append(fleet)
                continue
            }
            if try !judge(fleet, progress) { wanted = fleet.room * Self.climbStep }
        }
    }

    /// The next fleet in price that the bound allows.
    private mutating func nextInPrice() -> Fleet? {
        while result.looked < Self.mostMixes, let (mix, price) = heap.removeLeast() {
            result.looked += 1
            if mix.pods < plan.maximumPods { for next in mix.grown() { add(next) } }
            let room = plan.room(of: mix, workload, cached)
            if room >= 1 { return Fleet(mix: mix, price: price, room: room, kind: FleetKind(mix, plan.choices)) }
            result.beyondBound += 1
        }
        return nil
    }

    private func isRuledOut(_ fleet: Fleet) -> Bool { fleet.room <= failedRoom[fleet.kind] ?? 0 }

    @discardableResult
    private mutating func judge(
        _ fleet: Fleet,
        _ progress: (FleetPlan.Result) -> Void
    ) throws(SimulationError) -> Bool {
        progress(result)
        result.runs += 1
        let judged = try plan.judge(fleet.mix, price: fleet.price, room: fleet.room)
        if judged.holds {
            let place = holding.firstIndex { $0.dollarsPerHour > fleet.price } ?? holding.endIndex
            holding.insert(judged, at: place)
        } else {
            failedRoom[fleet.kind] = max(failedRoom[fleet.kind] ?? 0, fleet.room)
            failures.append(judged)
        }
        return judged.holds
    }

    /// Places in `open` of the fleets that are cheaper than the one that holds at `place`, and that nothing rules out.
    private func undecided(below place: Int) -> [Int] {
        let limit = holding.indices.contains(place) ? holding[place].dollarsPerHour : .infinity
        return open.indices.filter { open[$0].price < limit && !isRuledOut(open[$0]) }
    }

    /// The fleet whose run decides about half of the largest kind.
    private func middle(below place: Int) -> Int? {
        var kinds: [FleetKind: [Int]] = [:]
        for index in undecided(below: place) { kinds[open[index].kind, default: []].append(index) }
        // Of equally large ones the kind with the cheapest fleet.
        let largest = kinds.values.max { ($0.count, $1[0]) < ($1.count, $0[0]) }
        guard let fleets = largest else { return nil }
        let rooms = fleets.map { open[$0].room }.sorted()
        return fleets.first { open[$0].room >= rooms[rooms.count / 2] }
    }
}

/// Which accelerators play which role in a fleet, however many of them and in whatever tensor parallelism.
struct FleetKind: Sendable, Hashable {
    private var prefill: Set<String>
    private var decode: Set<String>
    private var both: Set<String>

    init(_ mix: FleetMix, _ choices: [PodChoice]) {
        func accelerators(_ counts: [Int]) -> Set<String> {
            Set(choices.indices.filter { counts[$0] > 0 }.map { choices[$0].endpoint.accelerator })
        }
        prefill = accelerators(mix.prefill)
        decode = accelerators(mix.decode)
        both = accelerators(mix.both)
    }
}
