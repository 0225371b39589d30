// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// `grpc.health.v1.Health` with Check, List and Watch: says which services of this server serve.
///
/// One per loop, confined to it. What it says is told to it by `set`.
package final class HealthService: GRPCService {
    private var services: [(name: String, isServing: Bool)]
    /// In the order of their coming.
    private var watches: [HealthCall] = []

    /// - Parameter services: every service that is known, with its first state. The empty name is the whole server.
    package init(_ services: [(name: String, isServing: Bool)]) { self.services = services }

    /// Tells the state of one service, now known if it was not, to whoever asks from now on and to whoever watches.
    package func set(_ name: String, isServing: Bool) {
        if let index = services.firstIndex(where: { $0.name == name }) {
            services[index].isServing = isServing
        } else {
            services.append((name, isServing))
        }
        for watch in watches where watch.watched == name { watch.tell(status(of: name)) }
    }

    /// Tells one state for all known services.
    package func setAll(isServing: Bool) {
        for service in services { set(service.name, isServing: isServing) }
    }

    /// Ends every Watch, since this server is about to end: clients come back, and find another one.
    package func endWatches() {
        for watch in watches { watch.end() }
    }

    package func handler(path: String, call: any GRPCCall) -> (any GRPCCallHandler)? {
        switch path {
        case "/grpc.health.v1.Health/Check": HealthCall(.check, call, self)
        case "/grpc.health.v1.Health/List": HealthCall(.list, call, self)
        case "/grpc.health.v1.Health/Watch": HealthCall(.watch, call, self)
        default: nil
        }
    }

    /// nil: no such service.
    fileprivate func status(of name: String) -> HealthMessages.ServingStatus? {
        services.first { $0.name == name }.map { $0.isServing ? .serving : .notServing }
    }

    fileprivate var list: [UInt8] {
        HealthMessages.list(services.map { ($0.name, $0.isServing ? .serving : .notServing) })
    }

    fileprivate func add(_ watch: HealthCall) { watches.append(watch) }

    fileprivate func remove(_ watch: HealthCall) { watches.removeAll { $0 === watch } }
}

/// One call of the health service.
private final class HealthCall: GRPCCallHandler {
    enum Method { case check, list, watch }

    /// The service that a Watch asked about.
    private(set) var watched: String?
    private let method: Method
    private let call: any GRPCCall
    private unowned let service: HealthService
    private var isAnswered = false
    private var lastTold: HealthMessages.ServingStatus?

    init(_ method: Method, _ call: any GRPCCall, _ service: HealthService) {
        self.method = method
        self.call = call
        self.service = service
    }

    func received(_ message: UnsafeRawBufferPointer) {
        guard !isAnswered else { return call.finish(GRPCStatus(.invalidArgument, "more than one request")) }
        isAnswered = true
        do throws(GRPCStatus) {
            let name = try unsafe HealthMessages.service(in: message)
            switch method {
            case .check: check(name)
            case .list: answer(service.list)
            case .watch:
                watched = name
                service.add(self)
                tell(service.status(of: name))
            }
        } catch {
            call.finish(error)
        }
    }

    func remoteEnded() {
        if !isAnswered { call.finish(GRPCStatus(.internal, "no request")) }
    }

    func closed(_ end: GRPCCallEnd) {
        if watched != nil { service.remove(self) }
    }

    /// Tells a watcher what is new to it.
    func tell(_ status: HealthMessages.ServingStatus?) {
        let status = status ?? .serviceUnknown
        guard status != lastTold else { return }
        lastTold = status
        send(HealthMessages.response(status))
    }

    func end() { call.finish(GRPCStatus(.unavailable, "the server is ending")) }

    private func check(_ name: String) {
        guard let status = service.status(of: name) else {
            return call.finish(GRPCStatus(.notFound, "unknown service"))
        }
        answer(HealthMessages.response(status))
    }

    private func answer(_ message: [UInt8]) {
        send(message)
        call.finish(.ok)
    }

    private func send(_ message: [UInt8]) {
        unsafe call.send(size: message.count) { room in unsafe room.copyBytes(from: message) }
    }
}
