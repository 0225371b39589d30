// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Configuration
package import CostModel
package import Logging
package import Router
import Synchronization

/// The control plane of one picker: reads the fleet file when it changes, scrapes every endpoint, and gives snapshots.
/// One thread, beside the data plane; what is decided here is decided by `FleetMachine`.
package final class FleetService: Sendable {
    package struct Options: Sendable {
        package var machine: FleetMachine.Settings
        /// The fleet file to watch. nil: the fleet changes by `replace` only.
        package var file: String?
        package var fileOptions: FleetFile.Options
        package var fileInterval: Seconds
        /// The engines whose pages can be read, beside the built-in ones.
        package var engines: [EngineMetrics]
        /// Seed of the jitter.
        package var seed: UInt64

        package init(
            machine: FleetMachine.Settings = FleetMachine.Settings(),
            file: String? = nil,
            fileOptions: FleetFile.Options = FleetFile.Options(),
            fileInterval: Seconds = Seconds(1),
            engines: [EngineMetrics] = [],
            seed: UInt64 = UInt64.random(in: .min ... .max)
        ) {
            self.machine = machine
            self.file = file
            self.fileOptions = fileOptions
            self.fileInterval = fileInterval
            self.engines = engines
            self.seed = seed
        }
    }

    /// What the service tells, on its own thread: be quick.
    package struct Handlers: Sendable {
        package var snapshot: @Sendable (FleetSnapshot) -> Void
        package var events: @Sendable ([FleetMachine.Event]) -> Void

        package init(
            snapshot: @escaping @Sendable (FleetSnapshot) -> Void,
            events: @escaping @Sendable ([FleetMachine.Event]) -> Void = { _ in }
        ) {
            self.snapshot = snapshot
            self.events = events
        }
    }

    struct Shared {
        var fleet: [EndpointDescription]
        var fleetIsNew = true
        var isStopping = false
        var statistics = FleetStatistics()
        var waker: CurlWaker?
        var thread: ControlThread?
    }

    let options: Options
    let clock: ModelClock
    let resolve: @Sendable (EndpointDescription, EndpointID) -> Endpoint
    let handlers: Handlers
    let log: Logger
    let shared: Mutex<Shared>

    /// `fleet` is as the caller read it at the start, so that a bad file is the caller's error; `resolve` gives an
    /// endpoint its profile: `ProfileCatalog.endpoint`.
    package init(
        fleet: [EndpointDescription],
        options: Options,
        clock: ModelClock,
        log: Logger,
        resolve: @escaping @Sendable (EndpointDescription, EndpointID) -> Endpoint,
        handlers: Handlers
    ) {
        self.options = options
        self.clock = clock
        self.log = log
        self.resolve = resolve
        self.handlers = handlers
        shared = Mutex(Shared(fleet: fleet))
    }

    /// Why the service could not start: the system gave no thread or no memory.
    package struct StartFailure: Error, Sendable, Hashable {}

    /// Gives the first snapshot before it returns, so that requests find the fleet.
    package func start() throws(StartFailure) {
        guard let loop = FleetLoop(self) else { throw StartFailure() }
        loop.begin()
        let box = LoopBox(loop)
        guard let thread = ControlThread(name: "fleet", { box.take()?.run() }) else {
            shared.withLock { $0.waker = nil }
            throw StartFailure()
        }
        shared.withLock { $0.thread = thread }
    }

    /// Ends the thread and waits for it. Fetches in flight are dropped.
    package func stop() {
        let thread = shared.withLock { shared in
            shared.isStopping = true
            shared.waker?.wake()
            defer { shared.thread = nil }
            return shared.thread
        }
        thread?.join()
    }

    /// The fleet as another source of discovery now describes it.
    package func replace(_ fleet: [EndpointDescription]) {
        shared.withLock { shared in
            shared.fleet = fleet
            shared.fleetIsNew = true
            shared.waker?.wake()
        }
    }

    package var statistics: FleetStatistics { shared.withLock { $0.statistics } }
}

/// Hands the loop to its thread. The loop is made by the starter and used by the thread alone after it.
private final class LoopBox: Sendable {
    private struct Content: ~Copyable {
        var loop: FleetLoop?
    }

    private let content: Mutex<Content>

    init(_ loop: sending FleetLoop) { content = Mutex(Content(loop: loop)) }

    func take() -> sending FleetLoop? {
        content.withLock { content in
            let loop = content.loop
            content.loop = nil
            return loop
        }
    }
}
