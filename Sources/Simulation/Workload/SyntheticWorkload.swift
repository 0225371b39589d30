// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Workloads drawn from stated distributions, from a seed. Arrivals of sessions are a Poisson process.
///
/// | kind | what | lengths |
/// |---|---|---|
/// | chat | sessions of geometric many turns (mean 4) under one of 20 system prompts; each prompt is all that went before | system 500 to 2,000; user log-normal, median 80, σ 1; answer median 250, σ 0.7; think time exponential, mean 30 s |
/// | agents | sessions of 3 to 20 tool calls under one of 5 system prompts with tools; each prompt is all that went before | system 4,000 to 12,000; tool result median 600, σ 1.2; answer median 40, σ 0.8, the last median 300; tool time exponential, mean 2 s |
/// | batch | independent prompts under one shared instruction | instruction 800; input median 1,500, σ 0.6; answer median 150, σ 0.5 |
/// | documents | sessions of 1 to 4 questions on one long document | document log-normal, median 30,000, σ 0.7, at most 120,000; question 30 to 100; answer median 400, σ 0.6; think time exponential, mean 45 s |
package enum SyntheticKind: String, Sendable, Hashable, CaseIterable {
    case chat, agents, batch, documents
}

package enum SyntheticWorkload {
    package static let blockSize = 64
    /// Longer prompts are cut: a common context window.
    static let contextWindow = 131_072

    /// `count` requests at `rate` per second on average.
    package static func make(_ kind: SyntheticKind, count: Int, rate: Double, seed: UInt64) -> Workload {
        var source = SessionSource(seed: seed)
        var requests: [OfferedRequest] = []
        var start = 0.0
        while requests.count < count * 2 {
            let session = source.session(kind, start: start)
            requests += session
            start += source.random.exponential() * Double(session.count) / rate
        }
        requests.sort { $0.arrival < $1.arrival }
        // The begin, when sessions have not piled up yet, is cut off.
        let steady = Array(requests.dropFirst(count / 2).prefix(count))
        return Workload(name: kind.rawValue, blockSize: blockSize, requests: steady)
    }

    /// The lengths of a workload under Poisson arrivals, without prefixes: as many requests as arrive in `duration`.
    package static func poisson(lengthsOf workload: Workload, rate: Double, duration: Double, seed: UInt64) -> Workload
    {
        var random = RandomStream(seed: seed, kind: 0x9015, index: 0)
        var requests: [OfferedRequest] = []
        var t = random.exponential() / rate
        while t < duration, !workload.requests.isEmpty, requests.count < TraceReading.maximumRequests {
            let pick = workload.requests[Int(random.next() % UInt64(workload.requests.count))]
            requests.append(
                OfferedRequest(arrival: t, promptTokens: pick.promptTokens, outputTokens: pick.outputTokens)
            )
            t += random.exponential() / rate
        }
        return Workload(name: workload.name, blockSize: workload.blockSize, requests: requests)
    }
}

/// A conversation's tokens, as hashes of the blocks that they fill.
private struct Conversation {
    var tokens = 0
    var hashes: [UInt64] = []
    private var chain: UInt64
    private let blockSize: Int

    init(chain: UInt64, blockSize: Int) {
        self.chain = chain
        self.blockSize = blockSize
    }

    /// Grows by text whose content `seed` names.
    mutating func append(_ count: Int, seed: UInt64) {
        tokens += count
        var mix = RandomStream(seed: chain ^ seed)
        while (hashes.count + 1) * blockSize <= tokens { hashes.append(mix.next()) }
        chain = mix.next()
    }
}

private struct SessionSource {
    var random: RandomStream

    init(seed: UInt64) { random = RandomStream(seed: seed, kind: 0x5E55, index: 0) }

    private mutating func uniform(_ low: Int, _ high: Int) -> Int {
        low + Int(random.next() % UInt64(max(high - low + 1, 1)))
    }

    /// Log-normal by its median, at least one.
    private mutating func length(median: Double, sigma: Double, limit: Int = SyntheticWorkload.contextWindow) -> Int {
        let draw = random.logNormal(sigma: sigma)
        // `logNormal` has mean 1, so its median is below 1 by exp(−σ²/2).
        let value = median * draw * RandomStream.medianScale(sigma: sigma)
        return min(max(Int(value), 1), limit)
    }

    mutating func session(_ kind: SyntheticKind, start: Double) -> [OfferedRequest] {
        switch kind {
        case .chat: chat(start)
        case .agents: agents(start)
        case .batch: batch(start)
        case .documents: documents(start)
        }
    }

    /// A conversation that begins with one of a kind's shared texts, whose length belongs to the text.
    private func shared(_ kind: UInt64, _ index: Int, _ low: Int, _ high: Int) -> Conversation {
        var lengths = RandomStream(seed: kind, kind: 1, index: UInt64(index))
        var conversation = Conversation(chain: kind &* 1000 &+ UInt64(index), blockSize: SyntheticWorkload.blockSize)
        conversation.append(low + Int(lengths.next() % UInt64(high - low + 1)), seed: 0)
        return conversation
    }

    private mutating func turn(
        _ conversation: inout Conversation,
        at t: Double,
        input: Int,
        output: Int
    ) -> OfferedRequest? {
        conversation.append(input, seed: random.next())
        guard conversation.tokens + output <= SyntheticWorkload.contextWindow else { return nil }
        let prompt = conversation
        conversation.append(output, seed: random.next())
        return OfferedRequest(
            arrival: t,
            promptTokens: prompt.tokens,
            outputTokens: output,
            promptHashes: prompt.hashes,
            outputHashes: Array(conversation.hashes.dropFirst(prompt.hashes.count))
        )
    }

    private mutating func chat(_ start: Double) -> [OfferedRequest] {
        var conversation = shared(1, uniform(0, 19), 500, 2000)
        var (requests, t): ([OfferedRequest], Double) = ([], start)
        repeat {
            let input = length(median: 80, sigma: 1)
            let output = length(median: 250, sigma: 0.7)
            guard let request = turn(&conversation, at: t, input: input, output: output) else { break }
            requests.append(request)
            t += 30 * random.exponential()
        } while random.uniform() < 0.75
        return requests
    }

    private mutating func agents(_ start: Double) -> [OfferedRequest] {
        var conversation = shared(2, uniform(0, 4), 4000, 12_000)
        var (requests, t): ([OfferedRequest], Double) = ([], start)
        let calls = uniform(3, 20)
        for call in 1...calls {
            let input = length(median: 600, sigma: 1.2)
            let output = call == calls ? length(median: 300, sigma: 0.6) : length(median: 40, sigma: 0.8)
            guard let request = turn(&conversation, at: t, input: input, output: output) else { break }
            requests.append(request)
            t += 2 * random.exponential()
        }
        return requests
    }

    private mutating func batch(_ start: Double) -> [OfferedRequest] {
        var conversation = shared(3, 0, 800, 800)
        let input = length(median: 1500, sigma: 0.6)
        let output = length(median: 150, sigma: 0.5)
        return turn(&conversation, at: start, input: input, output: output).map { [$0] } ?? []
    }

    private mutating func documents(_ start: Double) -> [OfferedRequest] {
        var conversation = Conversation(chain: random.next(), blockSize: SyntheticWorkload.blockSize)
        conversation.append(length(median: 30_000, sigma: 0.7, limit: 120_000), seed: 0)
        var (requests, t): ([OfferedRequest], Double) = ([], start)
        for _ in 1...uniform(1, 4) {
            let output = length(median: 400, sigma: 0.6)
            guard let request = turn(&conversation, at: t, input: uniform(30, 100), output: output) else { break }
            requests.append(request)
            t += 45 * random.exponential()
        }
        return requests
    }
}
