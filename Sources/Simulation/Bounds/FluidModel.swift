// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// Requests as a fluid that is spread over the pods: what a fleet can carry at all, and at what least cost.
///
/// A linear programme over classes of requests c and pods k (docs/simulator.md). Prompts find what an
/// infinite cache that all share would hold. Each prompt is computed once, on any pod, alone; each answer is decoded on
/// any decode pod, as `DecodeRate` says. No time is lost to queues, transfers, noise or wrong guesses, so no policy does
/// better, whatever it knows, but for the last block that a served-later request may find.
struct FluidModel {
    /// Requests that are much alike.
    struct RequestClass {
        var count = 0.0
        /// Per group: seconds of the group's profile for a mean prompt, and for the decoding of a mean answer.
        var prompt: [Double]
        var decode: [Double]
        /// Per group: seconds of decoding that may ride on a mean prompt's chunks.
        var ride: [Double]
    }

    private(set) var classes: [RequestClass] = []
    private let groups: [PodGroup]
    private let span: Double

    /// Classes hold equal work, so that the few longest prompts are told apart.
    static let classCount = 40

    /// `cached` are, per request, the prompt tokens that are found; `tpot` is the service level's bound in seconds,
    /// infinite for none.
    init(
        workload: Workload,
        cached: [Int],
        groups: [PodGroup],
        tpot: Double,
        classCount: Int = FluidModel.classCount
    ) {
        self.groups = groups
        span = max(workload.span, 1e-9)
        let work = workload.requests.indices.map { index -> Double in
            let new = workload.requests[index].promptTokens - cached[index]
            return groups.map { $0.prompt(newTokens: new, cachedTokens: cached[index]) }.min() ?? 0
        }
        let order = work.indices.sorted { (work[$0], $0) < (work[$1], $1) }
        let share = work.reduce(0, +) / Double(max(classCount, 1))
        var (begin, sum) = (0, 0.0)
        for (place, index) in order.enumerated() {
            sum += work[index]
            guard sum >= share * Double(classes.count + 1) * (1 - 1e-12) || place == order.count - 1 else { continue }
            classes.append(Self.mean(order[begin...place], workload, cached, groups, tpot))
            begin = place + 1
        }
    }

    private static func mean(
        _ members: ArraySlice<Int>,
        _ workload: Workload,
        _ cached: [Int],
        _ groups: [PodGroup],
        _ tpot: Double
    ) -> RequestClass {
        let zeros = [Double](repeating: 0, count: groups.count)
        var sum = RequestClass(prompt: zeros, decode: zeros, ride: zeros)
        sum.count = Double(members.count)
        for index in members {
            let offered = workload.requests[index]
            let new = offered.promptTokens - cached[index]
            let context = Double(offered.promptTokens) + Double(offered.outputTokens) / 2
            for (k, group) in groups.enumerated() {
                sum.prompt[k] += group.prompt(newTokens: new, cachedTokens: cached[index]) / sum.count
                guard group.role.canDecode else { continue }
                let rate = DecodeRate(group, context: context, tpot: tpot)
                // The prompt's end gives the first token.
                sum.decode[k] += Double(max(offered.outputTokens - 1, 0)) * rate.secondsPerToken / sum.count
                sum.ride[k] += rate.ride(newTokens: new) / sum.count
            }
        }
        return sum
    }

    private var total: Double { classes.reduce(0) { $0 + $1.count } }

    // MARK: Variables

    /// Prompts of class c on group k; answers of class c on group k; seconds of decoding on group k that ride on no
    /// chunk; then `extra` ones.
    private func promptIndex(_ c: Int, _ k: Int) -> Int { c * groups.count + k }
    private func answerIndex(_ c: Int, _ k: Int) -> Int { (classes.count + c) * groups.count + k }
    private func decodingIndex(_ k: Int) -> Int { 2 * classes.count * groups.count + k }
    private var firstExtra: Int { (2 * classes.count + 1) * groups.count }

    private func mayDecode(_ k: Int) -> Bool { groups[k].role.canDecode }

    /// The rows that hold for every use: each group's time, and decoding less what rides.
    private func addCapacity(to program: inout LinearProgram) {
        for (k, group) in groups.enumerated() {
            var time = classes.indices.map { (promptIndex($0, k), classes[$0].prompt[k]) }
            if mayDecode(k) {
                time.append((decodingIndex(k), 1))
                var decoding = classes.indices.map { (answerIndex($0, k), classes[$0].decode[k]) }
                decoding += classes.indices.map { (promptIndex($0, k), -classes[$0].ride[k]) }
                decoding.append((decodingIndex(k), -1))
                program.add(decoding, atMost: 0)
            }
            program.add(time, atMost: group.capacity * span)
        }
    }

    // MARK: Questions

    /// How many times the workload's rate the fleet can carry, if `free` of all requests need no service at all: the
    /// share that may miss its service level, which are the longest ones then.
    func highestLoad(free: Double) -> Double? {
        guard !classes.isEmpty else { return nil }
        let load = firstExtra + classes.count
        var objective = [Double](repeating: 0, count: load + 1)
        objective[load] = 1
        var program = LinearProgram(maximize: objective)
        addCapacity(to: &program)
        for c in classes.indices {
            let needed = [(load, classes[c].count), (firstExtra + c, -1)]
            program.add(needed + groups.indices.map { (promptIndex(c, $0), -1) }, atMost: 0)
            let answered = groups.indices.filter(mayDecode).map { (answerIndex(c, $0), -1.0) }
            program.add(needed + answered, atMost: 0)
            program.add([(firstExtra + c, 1), (load, -classes[c].count)], atMost: 0)
        }
        program.add(classes.indices.map { (firstExtra + $0, 1) } + [(load, -free * total)], atMost: 0)
        // With the rows above: none is computed twice for the sake of what could ride on it.
        var once = [(load, -total)]
        for c in classes.indices {
            once.append((firstExtra + c, 1))
            once += groups.indices.map { (promptIndex(c, $0), 1) }
        }
        program.add(once, atMost: 0)
        return program.solved()?.value
    }

    /// The least that serving all costs, where a prompt of class c on group k costs `prompt(c, k)` and a second of
    /// decoding there `decoding(k)`; nil where the fleet cannot carry the load.
    private func leastCost(prompt: (Int, Int) -> Double, decoding: (Int) -> Double) -> Double? {
        guard !classes.isEmpty else { return nil }
        // What a served prompt or answer is worth: more than any of them costs anywhere, so that all are served.
        var worth = 0.0
        for c in classes.indices {
            for k in groups.indices { worth = max(worth, prompt(c, k), decoding(k) * classes[c].decode[k]) }
        }
        worth = 10 * worth + 1e-9
        var objective = [Double](repeating: 0, count: firstExtra)
        for k in groups.indices {
            objective[decodingIndex(k)] = -decoding(k)
            for c in classes.indices {
                objective[promptIndex(c, k)] = worth - prompt(c, k)
                objective[answerIndex(c, k)] = mayDecode(k) ? worth : 0
            }
        }
        var program = LinearProgram(maximize: objective)
        addCapacity(to: &program)
        for c in classes.indices {
            program.add(groups.indices.map { (promptIndex(c, $0), 1) }, atMost: classes[c].count)
            program.add(groups.indices.map { (answerIndex(c, $0), 1) }, atMost: classes[c].count)
        }
        guard let solution = program.solved() else { return nil }
        var (prompts, answers) = (0.0, 0.0)
        for c in classes.indices {
            prompts += groups.indices.reduce(0) { $0 + solution.x[promptIndex(c, $1)] }
            answers += groups.indices.filter(mayDecode).reduce(0) { $0 + solution.x[answerIndex(c, $1)] }
        }
        guard prompts >= total * (1 - 1e-6), answers >= total * (1 - 1e-6) else { return nil }
        return worth * (prompts + answers) - solution.value
    }

    /// Least busy dollars of the whole workload; nil where the fleet cannot carry it.
    func leastDollars() -> Double? {
        func rate(_ k: Int) -> Double { groups[k].leastSlowness * groups[k].profile.dollarsPerSecond }
        return leastCost(prompt: { classes[$0].prompt[$1] * rate($1) }, decoding: rate)
    }

    /// Least mean seconds from a prompt's start to its first token, if no pod is given more than it can do; nil where
    /// the fleet cannot carry the workload. A prompt that is computed on a prefill pod needs the connector's setup and a
    /// decode step more.
    func leastServiceTime(setup: Double, firstStep: Double) -> Double? {
        let sum = leastCost(
            prompt: { c, k in
                let group = groups[k]
                return group.profile.ttftOverhead.rawValue + classes[c].prompt[k] * group.leastSlowness
                    + (group.role == .prefill ? setup + firstStep : 0)
            },
            decoding: { _ in 0 }
        )
        return sum.map { $0 / max(total, 1) }
    }
}
