// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CZMQ
internal import Glibc
package import PrefixIndex
internal import Synchronization

/// Publishes KV events as vLLM does, for mock model servers and tests: [topic, number, batch] on a PUB socket, and past
/// batches on request from a ROUTER.
package final class KVEventPublisher: Sendable {
    private struct State: ~Copyable {
        var socket: ZMQSocket
        var next: UInt64 = 0
        var past: [(number: UInt64, payload: [UInt8])] = []
    }

    private let state: Mutex<State>
    private let topic: [UInt8]
    private let stopping = Atomic<Bool>(false)
    private let thread = Mutex<ControlThread?>(nil)
    /// Where subscribers connect, with the port that the system chose for `*`.
    package let endpoint: String
    package let replayEndpoint: String?

    /// vLLM's default buffer_steps.
    private static let maxPast = 10_000

    /// The publisher binds `endpoint` where it holds a `*`, and connects to it else. `replay` is bound.
    package init(endpoint: String, topic: String = "", replay: String? = nil) throws(ZMQError) {
        let context = try ZMQContext()
        let socket = try ZMQSocket(context, type: ZMQ_PUB)
        socket.set(ZMQ_SNDHWM, Int32(100_000))
        if endpoint.contains("*") {
            try socket.bind(endpoint)
            self.endpoint = socket.lastEndpoint.replacingHost
        } else {
            try socket.connect(endpoint)
            self.endpoint = endpoint
        }
        self.topic = Array(topic.utf8)
        let router: ZMQSocket?
        if let replay {
            let made = try ZMQSocket(context, type: ZMQ_ROUTER)
            made.set(ZMQ_RCVTIMEO, Int32(100))
            // A subscriber that asks for all gets all.
            made.set(ZMQ_SNDHWM, Int32(2 * Self.maxPast))
            try made.bind(replay)
            router = made
            replayEndpoint = made.lastEndpoint.replacingHost
        } else {
            router = nil
            replayEndpoint = nil
        }
        state = Mutex(State(socket: socket))
        guard let router else { return }
        // Sound: this thread alone uses the router from here on.
        nonisolated(unsafe) let handed = router
        let made = ControlThread(name: "kv-replay") { [weak self] in
            let router = unsafe handed
            while let self, !self.stopping.load(ordering: .relaxed) { self.serve(router) }
        }
        thread.withLock { $0 = made }
    }

    /// Ends the thread that answers replays, and waits for it. Call before the last reference goes.
    package func stop() {
        stopping.store(true, ordering: .relaxed)
        let ended = thread.withLock { thread in
            defer { thread = nil }
            return thread
        }
        ended?.join()
    }

    /// Publishes all events of the encoder as one batch; nothing where it has none.
    package func publish(_ encoder: inout KVEventEncoder, time: Double, rank: Int = 0) {
        guard !encoder.isEmpty else { return }
        publish(encoder.batch(time: time, rank: rank))
    }

    /// Publishes a batch. `isLost`: only the number is used up, as when the network loses a message.
    package func publish(_ payload: [UInt8], isLost: Bool = false) {
        state.withLock { state in
            let number = state.next
            state.next += 1
            state.past.append((number, payload))
            if state.past.count > Self.maxPast { state.past.removeFirst(state.past.count - Self.maxPast) }
            if !isLost { _ = state.socket.send([topic, KVEventEncoder.sequenceFrame(number), payload]) }
        }
    }

    /// Answers one request, if there is one: [identity, empty, first number].
    private func serve(_ router: ZMQSocket) {
        let readable = ZMQPoll.wait([router], milliseconds: 100)
        guard !readable.isEmpty, let frames = router.receive(), frames.count >= 3, let asked = frames.last,
            asked.count == 8
        else { return }
        let first = asked.reduce(0) { $0 << 8 | UInt64($1) }
        let past = state.withLock { $0.past.filter { $0.number >= first } }
        for batch in past {
            guard router.send([frames[0], [], topic, KVEventEncoder.sequenceFrame(batch.number), batch.payload]) else {
                return
            }
        }
        _ = router.send([frames[0], [], [], [UInt8](repeating: 0xFF, count: 8), []])
    }
}

extension String {
    /// Where a socket bound to all interfaces is reached on this machine.
    fileprivate var replacingHost: String {
        guard let colon = lastIndex(of: ":") else { return self }
        let host = self[startIndex..<colon]
        return host.hasSuffix("//0.0.0.0") || host.hasSuffix("//[::]") || host.hasSuffix("//*")
            ? "tcp://127.0.0.1" + self[colon...] : self
    }
}
