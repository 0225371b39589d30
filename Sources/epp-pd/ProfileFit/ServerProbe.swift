// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Dispatch
import Fleet
import Foundation
import Synchronization

/// Carries out a plan against a live server.
struct ServerProbe {
    let probe: CompletionProbe
    let plan: ProbePlan
    private var prompts: ProbePrompt
    /// What did not work, in the order met.
    private(set) var problems: [String] = []
    private var cacheWatch = CacheWatch()

    /// A server that fails so often is not worth asking on.
    private static let mostProblems = 5
    /// Steps in which the whole batch decodes; fewer say too little.
    private static let leastSteps = 8.0

    init(probe: CompletionProbe, plan: ProbePlan, seed: UInt64) {
        self.probe = probe
        self.plan = plan
        prompts = ProbePrompt(seed: seed)
    }

    struct Measurements {
        var prefills: [ProfileFitting.PrefillSample] = []
        var decodes: [ProfileFitting.DecodeSample] = []
        /// Why the server's prefix cache makes these worthless, nil where it was in the state that the plan wants.
        var cacheProblem: String?
    }

    /// `progress` gets a line after each measurement.
    mutating func run(_ progress: (String) -> Void) throws(CompletionProbe.Failure) -> Measurements {
        try learnTokenLength()
        var result = Measurements()
        for (index, prefill) in plan.prefills.enumerated() where !probe.isStopped() {
            let measured = Result { () throws(CompletionProbe.Failure) in try measure(prefill) }
            if let sample = try kept(measured) {
                result.prefills.append(sample)
                progress(
                    "prefill \(index + 1)/\(plan.prefills.count): \(Int(sample.newTokens)) new, "
                        + "\(Int(sample.cachedTokens)) cached: \(Numbers.milliseconds(sample.ttft.rawValue)) ms"
                )
            }
            if let problem = cacheWatch.problem {
                // Nothing that follows could mend it.
                result.cacheProblem = problem
                return result
            }
        }
        for (index, decode) in plan.decodes.enumerated() where !probe.isStopped() {
            let measured = Result { () throws(CompletionProbe.Failure) in try measure(decode) }
            if let sample = try kept(measured) {
                result.decodes.append(sample)
                progress(
                    "decode \(index + 1)/\(plan.decodes.count): \(decode.batch) sequences of \(decode.context): "
                        + "\(Numbers.milliseconds(sample.step.rawValue)) ms per token"
                )
            }
        }
        return result
    }

    /// The sample; nil where it failed, unless too much did.
    private mutating func kept<Sample>(
        _ result: Result<Sample?, CompletionProbe.Failure>
    ) throws(CompletionProbe.Failure) -> Sample? {
        switch result {
        case .success(let sample): return sample
        case .failure(let failure):
            problems.append(failure.description)
            guard problems.count < Self.mostProblems else { throw failure }
            return nil
        }
    }

    private mutating func learnTokenLength() throws(CompletionProbe.Failure) {
        let text = prompts.text(tokens: 1000)
        let answer = try probe.send(prompt: text, outputTokens: 1)
        guard answer.promptTokens > 0 else { return }
        prompts.bytesPerToken = Double(text.utf8.count) / Double(answer.promptTokens)
    }

    private mutating func measure(_ plan: ProbePlan.Prefill) throws(CompletionProbe.Failure)
        -> ProfileFitting.PrefillSample?
    {
        var samples: [(ttft: Double, new: Double, cached: Double)] = []
        for _ in 0..<self.plan.repeats where !probe.isStopped() {
            var prompt = prompts.text(tokens: plan.cachedTokens > 0 ? plan.cachedTokens : plan.newTokens)
            var warm = 0
            if plan.cachedTokens > 0 {
                warm = try probe.send(prompt: prompt, outputTokens: 1).promptTokens
                prompt += " " + prompts.text(tokens: plan.newTokens)
            }
            let answer = try probe.send(prompt: prompt, outputTokens: 1)
            guard let ttft = answer.ttft else { continue }
            let total = answer.promptTokens > 0 ? answer.promptTokens : plan.newTokens + plan.cachedTokens
            if let cached = answer.cachedTokens { cacheWatch.note(cached: cached, planned: warm) }
            // A server that does not say is taken to have cached what it could.
            let cached = min(answer.cachedTokens ?? plan.cachedTokens, total)
            samples.append((ttft.rawValue, Double(total - cached), Double(cached)))
        }
        guard !samples.isEmpty else { return nil }
        let middle = samples.sorted { $0.ttft < $1.ttft }[samples.count / 2]
        return ProfileFitting.PrefillSample(
            newTokens: middle.new,
            cachedTokens: middle.cached,
            ttft: Seconds(middle.ttft)
        )
    }

    private mutating func measure(_ plan: ProbePlan.Decode) throws(CompletionProbe.Failure)
        -> ProfileFitting.DecodeSample?
    {
        var texts: [String] = []
        for _ in 0..<plan.batch { texts.append(prompts.text(tokens: plan.context)) }
        _ = try all(texts, outputTokens: 1)
        let answers = try all(texts, outputTokens: self.plan.outputTokens)
        return ServerProbe.sample(answers, context: plan.context)
    }

    /// The mean step while every sequence of the batch decodes: from the last first token to the first last token.
    static func sample(_ answers: [CompletionProbe.Answer], context: Int) -> ProfileFitting.DecodeSample? {
        guard let start = answers.compactMap({ $0.arrivals.first?.at }).max(),
            let end = answers.compactMap({ $0.arrivals.last?.at }).min(), end > start
        else { return nil }
        var steps = 0.0
        var kv = 0.0
        for answer in answers {
            let within = answer.arrivals.filter { $0.at >= start && $0.at <= end }
            guard let first = within.first, let last = within.last, last.at > first.at else { return nil }
            // Tokens per second of this sequence, over the common window.
            steps += Double(last.tokens - first.tokens) / (last.at - first.at).rawValue
            let prompt = answer.promptTokens > 0 ? answer.promptTokens : context
            kv += Double(prompt) + Double(first.tokens + last.tokens) / 2
        }
        let rate = steps / Double(answers.count)
        guard rate > 0, rate * (end - start).rawValue >= leastSteps else { return nil }
        return ProfileFitting.DecodeSample(batch: Double(answers.count), kvTokens: kv, step: Seconds(1 / rate))
    }

    /// Sends all at the same time, a thread each.
    private func all(_ texts: [String], outputTokens: Int) throws(CompletionProbe.Failure) -> [CompletionProbe.Answer] {
        final class Results: Sendable {
            let answers = Mutex<[Int: Result<CompletionProbe.Answer, CompletionProbe.Failure>]>([:])
        }
        let results = Results()
        let group = DispatchGroup()
        for (index, text) in texts.enumerated() {
            group.enter()
            let probe = probe
            let thread = Thread {
                let result = Result { () throws(CompletionProbe.Failure) in
                    try probe.send(prompt: text, outputTokens: outputTokens)
                }
                results.answers.withLock { $0[index] = result }
                group.leave()
            }
            thread.start()
        }
        group.wait()
        let answers = results.answers.withLock { $0 }
        var ordered: [CompletionProbe.Answer] = []
        for index in texts.indices {
            guard let answer = answers[index] else { continue }
            ordered.append(try answer.get())
        }
        return ordered
    }
}
