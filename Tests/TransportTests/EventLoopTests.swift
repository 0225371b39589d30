// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import Transport

@Suite("Event loop")
struct EventLoopTests {
    /// Runs `body` on the loop and waits for what it hands to its argument.
    private func wait<Value: Sendable>(
        _ loop: EventLoop,
        _ body: @escaping @Sendable (@escaping @Sendable (Value) -> Void) -> Void
    ) async -> Value {
        await withCheckedContinuation { continuation in
            loop.post { body { continuation.resume(returning: $0) } }
        }
    }

    @Test("Jobs run on the loop's thread, in the order of posting")
    func posting() async throws {
        let loop = try EventLoop(index: 0)
        defer { loop.stop() }
        let seen = Log<Int>()
        for number in 0..<1000 { loop.post { seen.add(number) } }
        #expect(await wait(loop) { $0(loop.isCurrent) })
        #expect(!loop.isCurrent)
        #expect(seen.all == Array(0..<1000))
    }

    @Test("No job of many threads is lost")
    func manyThreads() async throws {
        let loop = try EventLoop(index: 0)
        defer { loop.stop() }
        let count = Counter()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    for _ in 0..<2000 { loop.post { count.increment() } }
                }
            }
        }
        #expect(await wait(loop) { $0(count.value) } == 16_000)
    }

    @Test("Timers fire in the order of their deadlines, none too early; a cancelled one never")
    func timers() async throws {
        let loop = try EventLoop(index: 0)
        defer { loop.stop() }
        let seen = Log<Int>()
        let late: Bool = await wait(loop) { done in
            let start = MonotonicTime.current
            let early = Flag()
            for (number, delay) in [(3, 30), (1, 5), (2, 15)] {
                loop.schedule(after: .milliseconds(delay)) {
                    if MonotonicTime.current < start + .milliseconds(delay) { early.set() }
                    seen.add(number)
                }
            }
            let cancelled = loop.schedule(after: .milliseconds(10)) { seen.add(99) }
            loop.schedule(after: .milliseconds(1)) { cancelled.cancel() }
            loop.schedule(after: .milliseconds(50)) { done(early.isSet) }
        }
        #expect(!late)
        #expect(seen.all == [1, 2, 3])
    }

    @Test("A stopped loop has run what was posted before, tells who asked, and takes nothing more")
    func stopping() throws {
        let loop = try EventLoop(index: 0)
        let seen = Log<String>()
        loop.post {
            loop.atStop { seen.add("stopped") }
            loop.schedule(after: .seconds(3600)) { seen.add("timer") }
        }
        loop.post { seen.add("job") }
        loop.stop()
        #expect(seen.all == ["job", "stopped"])
        #expect(!loop.post {})
        loop.stop()
    }
}
