// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import HeapModule
import Router

/// How many requests any policy can serve within their service levels, whatever it knows: each request's least work must
/// fit into its own window of time. docs/simulator.md has the proof.
///
/// Pods are weighted, by λ, and pooled into one machine that does Σ λ·capacity of work a second, preempts and splits at
/// will. A prompt's work on it is the least λ·seconds over the pods, between its arrival and its deadline; an answer's the
/// least λ·seconds over the pods that decode, until the last token may come. Any λ bounds; `pools` picks a tight one. On
/// one machine the amounts of work that fit into their windows make a polymatroid, on which the fractional optimum is had
/// by filling in the order of work, the least first.
struct TimelyBound {
    /// One request: seconds of the pooled machine, and the window of each part.
    private struct Job {
        var prompt: Double
        var answer: Double
        var release: Double
        var due: Double
        var end: Double

        var work: Double { prompt + answer }
    }

    private var jobs: [Job] = []
    /// Jobs that can be in time at all, the least work first.
    private var byWork: [Int32] = []
    /// Place of each job in `byWork`; `.max` for those that cannot be in time.
    private var rank: [Int32] = []
    private let count: Int

    /// Workloads up to this size are bounded: some seconds for each load that is looked at.
    static let mostRequests = 100_000
    /// How finely the order of work is cut: coarser bounds less closely, finer takes longer.
    private static let portions = 64

    /// The bound of a workload at the load in question. `weights` are of the groups, from `pools`.
    init(workload: Workload, groups: [PodGroup], level: ServiceLevelRule, weights: [Double]) {
        count = workload.requests.count
        let demands = Self.demands(workload, groups, level)
        let speed = zip(groups, weights).reduce(0) { $0 + $1.0.capacity * $1.1 }
        let overhead = groups.map { max($0.profile.ttftOverhead.rawValue, 0) }.min() ?? 0
        rank = [Int32](repeating: .max, count: count)
        for (index, demand) in demands.enumerated() {
            let offered = workload.requests[index]
            let bound = level.level(promptTokens: offered.promptTokens)
            let due = offered.arrival + (bound.ttft?.rawValue ?? .infinity)
            let tail = (bound.tpot?.rawValue ?? .infinity) * Double(max(offered.outputTokens - 1, 0))
            jobs.append(
                Job(
                    prompt: Self.least(demand.prompt, weights) / speed,
                    answer: offered.outputTokens > 1 ? Self.least(demand.answer, weights) / speed : 0,
                    release: offered.arrival + overhead,
                    due: due,
                    end: offered.outputTokens > 1 ? due + tail : due
                )
            )
            if demand.isPossible { byWork.append(Int32(index)) }
        }
        byWork.sort { (jobs[Int($0)].work, $0) < (jobs[Int($1)].work, $1) }
        for (place, index) in byWork.enumerated() { rank[Int(index)] = Int32(place) }
    }

    private static func least(_ seconds: [Double], _ weights: [Double]) -> Double {
        var least = Double.infinity
        for (k, value) in seconds.enumerated() where value.isFinite { least = min(least, weights[k] * value) }
        return least.isFinite ? least : 0
    }

    // MARK: Work

    /// Per group: least seconds of its profile for a prompt and for an answer, infinite where it takes neither.
    private struct Demand {
        var prompt: [Double]
        var answer: [Double]
        /// Some pod, free and alone, computes the prompt in time.
        var isPossible: Bool
    }

    private static func demands(_ workload: Workload, _ groups: [PodGroup], _ level: ServiceLevelRule) -> [Demand] {
        let cached = found(workload, level)
        return workload.requests.indices.map { index in
            let offered = workload.requests[index]
            let new = offered.promptTokens - cached[index]
            let bound = level.level(promptTokens: offered.promptTokens)
            let tokens = Double(max(offered.outputTokens - 1, 0))
            var demand = Demand(prompt: [], answer: [], isPossible: false)
            for group in groups {
                var rate: DecodeRate?
                if group.role.canDecode {
                    // Contexts only grow.
                    rate = DecodeRate(
                        group,
                        context: Double(offered.promptTokens),
                        tpot: bound.tpot?.rawValue ?? .infinity
                    )
                }
                let seconds = group.leastPrompt(newTokens: new, cachedTokens: cached[index])
                demand.prompt.append(max(seconds - (rate?.ride(newTokens: new) ?? 0), 0))
                demand.answer.append(rate.map { tokens * $0.secondsPerToken } ?? .infinity)
                let alone = max(group.profile.ttftOverhead.rawValue, 0) + seconds * group.leastSlowness
                if bound.ttft.map({ alone <= $0.rawValue }) ?? true { demand.isPossible = true }
            }
            return demand
        }
    }

    /// Prompt tokens that a request in time may find: those in any other request that arrives before its own deadline, in
    /// whatever order they are served. The last block never.
    static func found(_ workload: Workload, _ level: ServiceLevelRule) -> [Int] {
        // Per block, the first two requests that have it.
        var first: [UInt64: (Int32, Int32)] = [:]
        for (index, request) in workload.requests.enumerated() {
            let name = Int32(truncatingIfNeeded: index)
            for hash in request.promptHashes + request.outputHashes {
                guard let known = first[hash] else {
                    first[hash] = (name, .max)
                    continue
                }
                if known.1 == .max, known.0 != name { first[hash] = (known.0, name) }
            }
        }
        return workload.requests.enumerated().map { index, request in
            let limit = min(max(request.promptTokens - 1, 0) / workload.blockSize, request.promptHashes.count)
            let bound = level.level(promptTokens: request.promptTokens).ttft?.rawValue ?? .infinity
            var blocks = 0
            while blocks < limit, let (one, two) = first[request.promptHashes[blocks]] {
                let other = Int(one) == index ? two : one
                guard other != .max, workload.requests[Int(other)].arrival < request.arrival + bound else { break }
                blocks += 1
            }
            return blocks * workload.blockSize
        }
    }

    // MARK: Weights

    /// Weights that bound closely: the pods' prices in the fluid limit, where all but `free` of the requests are served.
    ///
    /// Multiplicative weights (Arora, Hazan and Kale, 2012): a pod to which more work goes than it has time for gets dearer.
    static func pools(_ workload: Workload, _ groups: [PodGroup], _ level: ServiceLevelRule, free: Double) -> [Double] {
        let stride = max(workload.requests.count / mostSampled, 1)
        let demands = demands(workload, groups, level).enumerated().filter { $0.offset % stride == 0 }.map(\.element)
        let served = Int((Double(demands.count) * (1 - free)).rounded(.up))
        var weights = [Double](repeating: 1, count: groups.count)
        var best = (value: 0.0, weights: weights)
        for round in 0..<rounds {
            let total = zip(groups, weights).reduce(0) { $0 + $1.0.capacity * $1.1 }
            weights = weights.map { $0 / total }
            var choices = demands.map { Choice($0.prompt, $0.answer, weights) }
            choices.sort { $0.work < $1.work }
            let kept = choices.prefix(served)
            let value = kept.reduce(0) { $0 + $1.work }
            if value > best.value { best = (value, weights) }
            var loads = [Double](repeating: 0, count: groups.count)
            for choice in kept {
                loads[choice.promptGroup] += choice.promptSeconds
                if let group = choice.answerGroup { loads[group] += choice.answerSeconds }
            }
            guard value > 0 else { break }
            let step = firstStep / (1 + Double(round) / 8)
            for k in groups.indices {
                let excess = loads[k] / max(groups[k].capacity, 1e-12) / value - 1
                weights[k] *= 1 + step * min(max(excess, -1), 2)
            }
        }
        return best.weights
    }

    private static let rounds = 120
    private static let firstStep = 0.2
    private static let mostSampled = 4000

    /// Where a request's parts weigh least.
    private struct Choice {
        var promptGroup = 0
        var promptSeconds = 0.0
        var answerGroup: Int?
        var answerSeconds = 0.0
        var work = 0.0

        init(_ prompt: [Double], _ answer: [Double], _ weights: [Double]) {
            var (least, leastAnswer) = (Double.infinity, Double.infinity)
            for k in weights.indices {
                if weights[k] * prompt[k] < least {
                    (least, promptGroup, promptSeconds) = (weights[k] * prompt[k], k, prompt[k])
                }
                if answer[k].isFinite, weights[k] * answer[k] < leastAnswer {
                    (leastAnswer, answerGroup, answerSeconds) = (weights[k] * answer[k], k, answer[k])
                }
            }
            work = (least.isFinite ? least : 0) + (leastAnswer.isFinite ? leastAnswer : 0)
        }
    }

    // MARK: The bound

    /// The highest load, in steps of 0.05, at which the bound is not below `target`. The workload is at load `load`.
    static func highestLoad(
        _ workload: Workload,
        load: Double,
        target: Double,
        groups: [PodGroup],
        level: ServiceLevelRule,
        weights: [Double]
    ) -> Double {
        func holds(_ steps: Int) -> Bool {
            var faster = workload
            let factor = load / (Double(steps) * Experiment.loadStep)
            for index in faster.requests.indices { faster.requests[index].arrival *= factor }
            return TimelyBound(workload: faster, groups: groups, level: level, weights: weights).share() >= target
        }
        var (good, bad) = (0, Int((1 / Experiment.loadStep).rounded()))
        while holds(bad) {
            good = bad
            bad *= 2
            guard Double(bad) * Experiment.loadStep <= Experiment.highestLoad else { break }
        }
        while bad - good > 1 {
            let middle = (good + bad) / 2
            if holds(middle) { good = middle } else { bad = middle }
        }
        return Double(good) * Experiment.loadStep
    }

    /// No policy serves a larger share of the requests within their service levels.
    func share() -> Double {
        guard count > 0 else { return 1 }
        let size = max((byWork.count + Self.portions - 1) / Self.portions, 1)
        var places = Array(stride(from: size, to: byWork.count, by: size))
        places.append(byWork.count)
        // Where the first so many all fit, the first fewer do.
        var (fits, fails) = (0, places.count)
        while fails > fits {
            let middle = (fits + fails) / 2
            let wanted = byWork[..<places[middle]].reduce(0) { $0 + jobs[Int($1)].work }
            if served(places[middle]) >= wanted * (1 - 1e-9) { fits = middle + 1 } else { fails = middle }
        }
        var from = fits > 0 ? places[fits - 1] : 0
        var done = Double(from)
        var before = byWork[..<from].reduce(0) { $0 + jobs[Int($1)].work }
        for place in places[fits...] {
            let now = served(place)
            var room = max(now - before, 0)
            for index in byWork[from..<place] {
                let work = max(jobs[Int(index)].work, 1e-12)
                done += min(room / work, 1)
                room = max(room - work, 0)
            }
            (from, before) = (place, now)
        }
        return min(done / Double(count), 1)
    }

    /// Most seconds of the first `most` jobs, in order of work, that fit into their windows: at each moment the job whose
    /// window ends first (Glover's rule for convex graphs, 1967).
    private func served(_ most: Int) -> Double {
        var heap = Heap<Part>()
        var (now, total, next) = (-Double.infinity, 0.0, 0)
        while next < jobs.count || !heap.isEmpty {
            let release = next < jobs.count ? jobs[next].release : .infinity
            guard var first = heap.popMin() else {
                now = max(now, release)
                next = add(from: next, at: now, below: most, to: &heap)
                continue
            }
            let run = max(min(first.rest, release - now, first.end - now), 0)
            total += run
            now += run
            first.rest -= run
            if first.rest > 1e-12, first.end > now { heap.insert(first) }
            if now >= release { next = add(from: next, at: now, below: most, to: &heap) }
        }
        return total
    }

    /// Adds the parts of jobs released by `now`. - Returns: the next job.
    private func add(from start: Int, at now: Double, below most: Int, to heap: inout Heap<Part>) -> Int {
        var next = start
        while next < jobs.count, jobs[next].release <= now {
            if Int(rank[next]) < most {
                let job = jobs[next]
                let name = Int32(truncatingIfNeeded: next)
                if job.prompt > 0 { heap.insert(Part(end: job.due, job: name, rest: job.prompt)) }
                if job.answer > 0 { heap.insert(Part(end: job.end, job: name, rest: job.answer)) }
            }
            next += 1
        }
        return next
    }

    private struct Part: Comparable {
        var end: Double
        var job: Int32
        var rest: Double

        static func < (a: Part, b: Part) -> Bool { (a.end, a.job) < (b.end, b.job) }
    }
}
