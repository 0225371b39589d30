// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

@testable import Gateway
@testable import Router

/// A call that keeps what is sent on it.
final class FakeCall: GRPCCall {
    private(set) var sent: [[UInt8]] = []
    private(set) var status: GRPCStatus?

    func send(size: Int, _ write: (UnsafeMutableRawBufferPointer) -> Void) {
        guard status == nil else { return }
        var message = [UInt8](repeating: 0xAA, count: size)
        unsafe message.withUnsafeMutableBytes { unsafe write($0) }
        sent.append(message)
    }

    func finish(_ status: GRPCStatus) {
        if self.status == nil { self.status = status }
    }
}

/// A picker that answers as it is told and notes what it hears.
final class ScriptedPicker: Picker {
    enum Event: Hashable {
        case asked(RequestID)
        case firstToken(RequestID)
        case served(RequestID, Served)
        case ended(RequestID, Outcome)
    }

    /// nil: the test resolves by itself.
    var verdict: Verdict?
    private(set) var requests: [ParsedRequest] = []
    private(set) var events: [Event] = []
    private(set) var pending: [RequestID: any PendingExchange] = [:]

    init(_ verdict: Verdict? = .route(Route(destinations: ["10.0.0.1:8000"]))) { self.verdict = verdict }

    final class Upload: UploadDeadline {
        private(set) var isRunning = true
        func cancel() { isRunning = false }
    }
    private(set) var uploads: [Upload] = []

    func uploadBegan(of exchange: any PendingExchange) -> (any UploadDeadline)? {
        uploads.append(Upload())
        return uploads.last
    }

    func decide(_ request: ParsedRequest, for exchange: any PendingExchange) {
        requests.append(request)
        events.append(.asked(request.id))
        if let verdict { exchange.resolve(verdict) } else { pending[request.id] = exchange }
    }

    func forget() { pending = [:] }

    func firstToken(_ request: RequestID) { events.append(.firstToken(request)) }

    func served(_ request: RequestID, _ served: Served) { events.append(.served(request, served)) }

    func ended(_ request: RequestID, _ outcome: Outcome) { events.append(.ended(request, outcome)) }

    var outcomes: [Outcome] {
        events.compactMap { event in
            if case .ended(_, let outcome) = event { outcome } else { nil }
        }
    }

    var firstTokens: Int { events.filter { if case .firstToken = $0 { true } else { false } }.count }
}

final class NotingObserver: ExchangeObserver {
    private(set) var notes: [String] = []

    func servedElsewhere(_ request: RequestID, picked: [String], served: String) {
        notes.append("served \(served) instead of \(picked.joined(separator: ","))")
    }

    func answered(status: Int) { notes.append("answered \(status)") }
    func violated(_ status: GRPCStatus) { notes.append("violated \(status.code)") }
}

/// One exchange on a fake call.
final class Bench {
    let picker: ScriptedPicker
    let observer = NotingObserver()
    let call = FakeCall()
    let service: ExtProcService
    let handler: any GRPCCallHandler
    private var taken = 0

    init(
        _ picker: ScriptedPicker = ScriptedPicker(),
        _ options: ExchangeOptions = ExchangeOptions(),
        budget: BodyBudget = BodyBudget(limit: .max)
    ) throws {
        self.picker = picker
        var last: UInt64 = 0
        service = ExtProcService(picker: picker, options: options, budget: budget, observer: observer) {
            last += 1
            return RequestID(last)
        }
        guard let handler = service.handler(path: ExtProcService.path, call: call) else {
            throw WireMessage.Malformed()
        }
        self.handler = handler
    }

    /// A picker that was never let answer still holds its exchange, and through it the service and itself.
    deinit { picker.forget() }

    /// A further exchange of the same service, on a call of its own.
    func another() throws -> any GRPCCallHandler {
        guard let handler = service.handler(path: ExtProcService.path, call: FakeCall()) else {
            throw WireMessage.Malformed()
        }
        return handler
    }

    /// Sends one message, and gives the answers that it brought.
    @discardableResult
    func send(_ message: [UInt8]) throws -> [EnvoyAnswer] {
        unsafe message.withUnsafeBytes { unsafe handler.received($0) }
        return try answers()
    }

    /// What was answered since the last look.
    func answers() throws -> [EnvoyAnswer] {
        defer { taken = call.sent.count }
        return try call.sent[taken...].map { try EnvoyAnswer($0) }
    }
}
