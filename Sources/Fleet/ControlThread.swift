// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Glibc

/// A thread of the control plane that runs one closure to its end.
@safe package final class ControlThread: Sendable {
    private final class Body: Sendable {
        let name: String
        let run: @Sendable () -> Void

        init(name: String, run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }

    private let thread: pthread_t

    /// Starts at once. `name` is shown by ps and top: at most 15 bytes.
    /// - Returns: nil where the system gives no thread.
    package init?(name: String, _ run: @escaping @Sendable () -> Void) {
        var thread = pthread_t()
        let body = unsafe Unmanaged.passRetained(Body(name: name, run: run))
        let code = unsafe pthread_create(
            &thread,
            nil,
            { context in
                guard let context = unsafe context else { return nil }
                let body = unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue()
                nameThread(body.name)
                body.run()
                return nil
            },
            body.toOpaque()
        )
        guard code == 0 else {
            unsafe body.release()
            return nil
        }
        self.thread = thread
    }

    /// Waits for the closure's end. Call once.
    package func join() { _ = pthread_join(thread, nil) }

    /// Lets the calling thread sleep.
    package static func sleep(seconds: Double) {
        usleep(UInt32(min(max(seconds, 0), 60) * 1e6))
    }

    /// Processor time that the calling thread has used, in seconds.
    package static var processorTime: Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}

/// pthread_setname_np is hidden without _GNU_SOURCE; this file does the same.
private func nameThread(_ name: String) {
    let file = unsafe open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { return }
    unsafe write(file, name, name.utf8.count)
    close(file)
}
