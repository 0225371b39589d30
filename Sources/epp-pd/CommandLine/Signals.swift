// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Fleet
import Glibc

/// Signals as calls on a thread of their own.
///
/// They are blocked in the thread that makes this object and in all that are started later, so none is ever lost: what
/// comes before `start` waits in the kernel. Dispatch's sources of signals have a moment between ignoring a signal and
/// hearing of it, and a SIGTERM of that moment is gone.
struct Signals {
    private let set: sigset_t

    /// Make it before any other thread.
    init(_ numbers: [Int32]) {
        var set = sigset_t()
        unsafe sigemptyset(&set)
        for number in numbers { unsafe sigaddset(&set, number) }
        unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
        self.set = set
    }

    /// The system gives no thread.
    struct StartFailure: Error {}

    /// Calls `handler` for each signal, one after another, from now to the end of the process.
    func start(_ handler: @escaping @Sendable () -> Void) throws(StartFailure) {
        let thread = ControlThread(name: "signals") { [set] in
            while true {
                var (set, number) = (set, Int32(0))
                if unsafe sigwait(&set, &number) == 0 { handler() }
            }
        }
        guard thread != nil else { throw StartFailure() }
    }
}
