// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Dispatch
import Foundation

/// Signals as calls on a queue of their own.
final class Signals {
    private let queue = DispatchQueue(label: "signals")
    private var sources: [any DispatchSourceSignal] = []

    /// Calls `handler` each time the process gets one of `signals`, which then do not end it.
    func on(_ signals: [Int32], _ handler: @escaping @Sendable () -> Void) {
        for number in signals {
            Foundation.signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
            source.setEventHandler(handler: handler)
            source.activate()
            sources.append(source)
        }
    }
}
