// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CLinux

/// Something with a descriptor that a loop watches. Confined to that loop.
class EventSource {
    let descriptor: Int32
    /// Set when the loop no longer watches it: what the kernel reported in the same breath is then ignored.
    fileprivate(set) var isWatched = false

    init(descriptor: Int32) { self.descriptor = descriptor }

    /// What happened, as epoll says it.
    func ready(_ events: UInt32) {}
}

/// An epoll instance.
@safe struct EventPoll: ~Copyable {
    private static let eventsPerWait = 256

    private let descriptor: Int32
    private let events: UnsafeMutablePointer<epoll_event>

    init() throws(SystemError) {
        descriptor = epoll_create1(CInt(EPOLL_CLOEXEC))
        unsafe events = UnsafeMutablePointer<epoll_event>.allocate(capacity: Self.eventsPerWait)
        guard descriptor >= 0 else {
            unsafe events.deallocate()
            throw SystemError.last("epoll_create1")
        }
    }

    deinit {
        unsafe events.deallocate()
        close(descriptor)
    }

    /// Watches `source` until it is removed. The caller keeps it alive until the wait after its removal.
    func add(_ source: EventSource, _ interest: UInt32) throws(SystemError) {
        guard control(EPOLL_CTL_ADD, source, interest) == 0 else { throw SystemError.last("epoll_ctl") }
        source.isWatched = true
    }

    /// Cannot fail for a source that is watched.
    func change(_ source: EventSource, _ interest: UInt32) { control(EPOLL_CTL_MOD, source, interest) }

    func remove(_ source: EventSource) {
        guard source.isWatched else { return }
        source.isWatched = false
        control(EPOLL_CTL_DEL, source, 0)
    }

    /// Waits for events, at most `milliseconds` (-1: for ever), and tells each source.
    func wait(milliseconds: Int32) {
        let count = unsafe epoll_wait(descriptor, events, CInt(Self.eventsPerWait), milliseconds)
        guard count > 0 else { return }
        for index in 0..<Int(count) {
            let event = unsafe events[index]
            guard let pointer = unsafe event.data.ptr else { continue }
            // Alive: a removed source is kept until after this wait (see `add`).
            unsafe Unmanaged<EventSource>.fromOpaque(pointer)._withUnsafeGuaranteedRef { source in
                if source.isWatched { unsafe source.ready(event.events) }
            }
        }
    }

    @discardableResult
    private func control(_ operation: CInt, _ source: EventSource, _ interest: UInt32) -> CInt {
        var event = unsafe epoll_event()
        unsafe event.events = interest
        unsafe event.data.ptr = Unmanaged.passUnretained(source).toOpaque()
        return unsafe epoll_ctl(descriptor, operation, source.descriptor, &event)
    }
}

/// Wakes a loop from another thread: an eventfd.
final class WakeUp: EventSource {
    init() throws(SystemError) {
        let descriptor = eventfd(0, CInt(EFD_NONBLOCK | EFD_CLOEXEC))
        guard descriptor >= 0 else { throw SystemError.last("eventfd") }
        super.init(descriptor: descriptor)
    }

    deinit { close(descriptor) }

    /// May be called on any thread.
    func signal() { _ = eventfd_write(descriptor, 1) }

    override func ready(_ events: UInt32) {
        var count: eventfd_t = 0
        unsafe _ = eventfd_read(descriptor, &count)
    }
}
