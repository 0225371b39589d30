// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
internal import Dispatch
internal import Synchronization

/// Has engines cut prompts into tokens, beside the data plane: a few threads, each with one question at a time, and a
/// bounded queue before them.
///
/// Who asks sets a deadline of his own. What is still queued then is not asked at all, so a slow engine costs its threads'
/// time-outs and nothing else.
package final class EngineTokenizer: Sendable {
    package struct Question: Sendable {
        package var url: String
        /// The client's own body: engines take it as it is.
        package var body: [UInt8]

        package init(url: String, body: [UInt8]) {
            self.url = url
            self.body = body
        }
    }

    private struct Waiting: Sendable {
        var question: Question
        var until: ContinuousClock.Instant
        var answer: @Sendable ([UInt32]?) -> Void
    }

    private struct State {
        var waiting: [Waiting] = []
        var waitingBytes = 0
        var isStopping = false
        var threads: [ControlThread] = []
    }

    private let state = Mutex(State())
    private let work = DispatchSemaphore(value: 0)
    private let connections: Int
    /// Beyond, a question would wait longer than anybody waits for its answer.
    private static let maxWaiting = 256
    private static let maxWaitingBytes = 64 << 20
    /// Twelve bytes for each of the most tokens.
    private static let maxAnswerBytes = 12 * TokenList.maxTokens

    package init(connections: Int) { self.connections = max(connections, 1) }

    package func start() {
        let threads = (0..<connections).compactMap { index in
            ControlThread(name: "tokenize-\(index)") { [self] in
                guard let client = StreamedRequest() else { return }
                while let next = take() { answer(next, client) }
            }
        }
        state.withLock { $0.threads = threads }
    }

    /// Ends the threads and waits for them: as long as one time-out.
    package func stop() {
        let threads = state.withLock { state in
            state.isStopping = true
            defer { state.threads = [] }
            return state.threads
        }
        for _ in threads { work.signal() }
        for thread in threads { thread.join() }
    }

    /// Asks. `answer` is called on a thread of the tokenizer, once, with nil where the engine did not answer in time or well.
    /// - Returns: false where too many wait already; nothing is called then.
    package func ask(
        _ question: Question,
        within limit: Seconds,
        answer: @escaping @Sendable ([UInt32]?) -> Void
    ) -> Bool {
        let until = ContinuousClock.now + .seconds(limit.rawValue)
        let isTaken = state.withLock { state in
            guard !state.isStopping, state.waiting.count < Self.maxWaiting,
                state.waitingBytes + question.body.count <= Self.maxWaitingBytes
            else { return false }
            state.waitingBytes += question.body.count
            state.waiting.append(Waiting(question: question, until: until, answer: answer))
            return true
        }
        if isTaken { work.signal() }
        return isTaken
    }

    /// nil when the tokenizer shall stop.
    private func take() -> Waiting? {
        while true {
            work.wait()
            let (next, isStopping) = state.withLock { state in
                let next = state.waiting.isEmpty ? nil : state.waiting.removeFirst()
                state.waitingBytes -= next?.question.body.count ?? 0
                return (next, state.isStopping)
            }
            if isStopping { return nil }
            if let next { return next }
        }
    }

    private func answer(_ next: Waiting, _ client: StreamedRequest) {
        let left = next.until - ContinuousClock.now
        guard left > .milliseconds(1) else { return next.answer(nil) }
        let seconds = Seconds(Double(left.components.seconds) + Double(left.components.attoseconds) * 1e-18)
        var received: [UInt8] = []
        let result = client.post(url: next.question.url, body: next.question.body, bearer: nil, timeout: seconds) {
            bytes in
            guard received.count + bytes.count <= Self.maxAnswerBytes else { return false }
            for index in bytes.indices { received.append(bytes[index]) }
            return true
        }
        next.answer(result == .success(200) ? TokenList.read(received) : nil)
    }
}
