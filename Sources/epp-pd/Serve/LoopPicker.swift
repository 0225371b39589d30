// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Gateway
import Router
import Transport

/// The picker as the exchanges of one loop see it: asks the one Router, and brings its verdicts back to this loop.
///
/// `@unchecked Sendable`: all state is touched by the loop's thread alone; other threads only `deliver`, which posts.
final class LoopPicker: Picker, @unchecked Sendable {
    private let host: RouterHost
    private let loop: EventLoop
    private var numbers: RequestNumbers
    /// Exchanges that wait for their verdict.
    private var waiting: [RequestID: any PendingExchange] = [:]

    init(host: RouterHost, loop: EventLoop) {
        self.host = host
        self.loop = loop
        numbers = RequestNumbers(loop: loop.index)
    }

    var loopIndex: Int { loop.index }

    func nextRequestID() -> RequestID { numbers.next() }

    // MARK: - Picker

    func decide(_ request: ParsedRequest, for exchange: any PendingExchange) {
        waiting[request.id] = exchange
        host.arrived(request, on: self)
    }

    func firstToken(_ request: RequestID) { host.firstToken(request, on: self) }

    func ended(_ request: RequestID, _ outcome: Outcome) {
        waiting[request] = nil
        host.ended(request, outcome, on: self)
    }

    // MARK: - From the host

    /// May be called on any thread.
    func deliver(_ verdict: Verdict, to request: RequestID, from current: LoopPicker?) {
        if current === self { return resolve(request, verdict) }
        loop.post { [self] in resolve(request, verdict) }
    }

    /// Runs `action` on this loop after a span of wall time. May be called on any thread.
    func schedule(after wall: Seconds, _ action: @escaping @Sendable () -> Void) {
        loop.post { [loop] in loop.schedule(after: .seconds(wall.rawValue), action) }
    }

    /// A request that left meanwhile is not waiting any more, and has been told to have ended.
    private func resolve(_ request: RequestID, _ verdict: Verdict) {
        waiting.removeValue(forKey: request)?.resolve(verdict)
    }
}
