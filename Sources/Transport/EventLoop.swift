// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CLinux
internal import Glibc
internal import Locks
internal import Synchronization

/// One thread that waits for sockets and timers, and runs what they bring.
///
/// `post`, `stop` and `index` may be used from any thread; everything else only from actions that the loop itself runs.
/// That is also the argument for `@unchecked Sendable`: what other threads reach is the inbox behind its mutex and the
/// wake-up descriptor; all other state is touched by the loop's thread alone, which `assert(isCurrent)` watches.
@safe package final class EventLoop: @unchecked Sendable {
    package let index: Int
    /// When the loop last woke up. Cheap; good enough for time-outs.
    package private(set) var now = MonotonicTime.current

    /// Bytes that one read takes at most. Several large request bodies fit in one wake-up, and it stays in the cache.
    private static let readBufferBytes = 128 << 10

    /// Lent to whoever reads, for the time of one read: what came from a socket, and what TLS made of it.
    let readBuffer: UnsafeMutableRawBufferPointer
    let plaintextBuffer: UnsafeMutableRawBufferPointer
    private let poll: EventPoll
    private let wakeUp: WakeUp
    private let inbox = Guarded(Inbox())
    private let thread = Mutex<pthread_t?>(nil)
    private var threadID: pthread_t?
    private var timers = TimerQueue()
    private var running: [@Sendable () -> Void] = []
    private var pending: [any PendingFlush] = []
    private var flushing: [any PendingFlush] = []
    /// Sources that were removed in this turn: the kernel may have reported them in it.
    private var removed: [EventSource] = []
    private var stopActions: [() -> Void] = []
    private var isStopping = false

    private struct Inbox {
        var jobs: [@Sendable () -> Void] = []
        var isClosed = false
    }

    /// Makes a loop and starts its thread.
    package init(index: Int) throws(SystemError) {
        self.index = index
        poll = try EventPoll()
        wakeUp = try WakeUp()
        unsafe readBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.readBufferBytes, alignment: 64)
        unsafe plaintextBuffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Self.readBufferBytes,
            alignment: 64
        )
        try poll.add(wakeUp, EPOLLIN.rawValue)
        try startThread()
    }

    deinit {
        unsafe readBuffer.deallocate()
        unsafe plaintextBuffer.deallocate()
    }

    /// `count` loops, each on its own thread.
    package static func start(count: Int) throws(SystemError) -> [EventLoop] {
        var loops: [EventLoop] = []
        for index in 0..<max(1, count) { loops.append(try EventLoop(index: index)) }
        return loops
    }

    // MARK: From any thread

    /// Runs `job` on the loop's thread, after what was posted before.
    ///
    /// - Returns: false where the loop has stopped; the job is then dropped.
    @discardableResult
    package func post(_ job: @escaping @Sendable () -> Void) -> Bool {
        let (isTaken, isFirst) = inbox.withLock { inbox in
            guard !inbox.isClosed else { return (false, false) }
            inbox.jobs.append(job)
            return (true, inbox.jobs.count == 1)
        }
        // Who finds the inbox empty wakes the loop; it takes all that is there when it comes.
        if isFirst { wakeUp.signal() }
        return isTaken
    }

    /// Ends the loop after what was posted before, and waits for its thread. Not to be called on it.
    package func stop() {
        post { self.isStopping = true }
        guard let thread = thread.withLock({ $0.take() }) else { return }
        pthread_join(thread, nil)
    }

    // MARK: On the loop

    package var isCurrent: Bool { threadID.map { pthread_equal($0, pthread_self()) != 0 } ?? false }

    /// Runs `action` once, not before `delay` has passed, at most about a millisecond late.
    @discardableResult
    package func schedule(after delay: Duration, _ action: @escaping () -> Void) -> LoopTimer {
        assert(isCurrent, "timers belong to the loop's thread")
        return LoopTimer(loop: self, token: timers.add(at: MonotonicTime.current + delay, action))
    }

    fileprivate func cancel(_ token: TimerQueue.Token) {
        assert(isCurrent, "timers belong to the loop's thread")
        timers.cancel(token)
    }

    /// Runs `action` on the loop's thread when the loop ends.
    package func atStop(_ action: @escaping () -> Void) { stopActions.append(action) }

    /// Writes of a turn are gathered, and done at its end.
    func flushLater(_ target: any PendingFlush) { pending.append(target) }

    func watch(_ source: EventSource, _ interest: UInt32) throws(SystemError) { try poll.add(source, interest) }

    func changeWatch(_ source: EventSource, _ interest: UInt32) { poll.change(source, interest) }

    func unwatch(_ source: EventSource) {
        poll.remove(source)
        removed.append(source)
    }

    // MARK: The thread

    private func startThread() throws(SystemError) {
        // Signals are the main thread's: this thread inherits a mask that blocks them all.
        var all = sigset_t()
        var before = sigset_t()
        unsafe sigfillset(&all)
        unsafe pthread_sigmask(SIG_BLOCK, &all, &before)
        defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
        let owned = unsafe Unmanaged.passRetained(self)
        var started = pthread_t()
        let code = unsafe pthread_create(
            &started,
            nil,
            { argument in
                if let argument = unsafe argument {
                    unsafe Unmanaged<EventLoop>.fromOpaque(argument).takeRetainedValue().run()
                }
                return nil
            },
            owned.toOpaque()
        )
        guard code == 0 else {
            unsafe owned.release()
            throw SystemError("pthread_create", code: code)
        }
        unsafe pthread_setname_np(started, "loop-\(index)")
        thread.withLock { $0 = started }
    }

    private func run() {
        threadID = pthread_self()
        while !isStopping {
            poll.wait(milliseconds: waitMilliseconds())
            now = .current
            runInbox()
            runTimers()
            flush()
            removed.removeAll(keepingCapacity: true)
        }
        inbox.withLock { inbox in
            inbox.isClosed = true
            inbox.jobs = []
        }
        for action in stopActions { action() }
        stopActions = []
        timers.removeAll()
        pending = []
        removed = []
    }

    private func waitMilliseconds() -> Int32 {
        guard pending.isEmpty else { return 0 }
        guard let next = timers.nextDeadline else { return -1 }
        let current = MonotonicTime.current.nanoseconds
        guard next.nanoseconds > current else { return 0 }
        // Rounded up: waking too early would only mean to wait again.
        return Int32(clamping: (next.nanoseconds - current + 999_999) / 1_000_000)
    }

    private func runInbox() {
        inbox.withLock { swap(&$0.jobs, &running) }
        for job in running { job() }
        running.removeAll(keepingCapacity: true)
    }

    private func runTimers() {
        while let action = timers.popDue(now) { action() }
    }

    private func flush() {
        guard !pending.isEmpty else { return }
        swap(&pending, &flushing)
        for target in flushing { target.flush() }
        flushing.removeAll(keepingCapacity: true)
    }
}

/// Something that has bytes to write at the end of a turn.
protocol PendingFlush: AnyObject {
    func flush()
}

/// An action that waits for its moment. Belongs to its loop.
package struct LoopTimer {
    fileprivate let loop: EventLoop
    fileprivate let token: TimerQueue.Token

    /// Does nothing when the action has run.
    package func cancel() { loop.cancel(token) }
}
