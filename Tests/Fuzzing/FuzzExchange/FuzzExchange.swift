// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import Router

/// One exchange from a fuzzer's bytes: messages, some raw and some well formed, verdicts and ends in any order.
///
/// Run it with `scripts/fuzz FuzzExchange`.
@unsafe @_cdecl("LLVMFuzzerTestOneInput")
public func fuzzExchange(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = unsafe [UInt8](UnsafeBufferPointer(start: start, count: count))
    let run = FuzzedExchange(input[...])
    run.play()
    run.check()
    return 0
}

/// Keeps what the picker heard and what was sent, and judges it.
private final class FuzzedExchange: GRPCCall, Picker {
    private static let paths = [
        "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/tokenize",
    ]

    private var input: ArraySlice<UInt8>
    private var isFinished = false
    private var asked = 0
    private var ended = 0
    private var refused = 0
    private var waiting: (any PendingExchange)?

    init(_ input: ArraySlice<UInt8>) { self.input = input }

    func uploadBegan(of exchange: any PendingExchange) -> (any UploadDeadline)? { nil }

    func play() {
        var options = ExchangeOptions()
        options.bodyLimit = 4_096
        let service = ExtProcService(picker: self, options: options) { RequestID(1) }
        guard let handler = service.handler(path: ExtProcService.path, call: self) else { return }
        while let operation = input.popFirst() {
            switch operation & 15 {
            case 0: deliver(take(), to: handler)
            case 1, 2: deliver(message(2, headers(operation)) + modes(operation), to: handler)
            case 3...6: deliver(message(4, body(operation)), to: handler)
            case 7: deliver(message(6, []), to: handler)
            case 8, 9: deliver(message(3, responseHeaders(operation)), to: handler)
            case 10...12: deliver(message(5, body(operation)), to: handler)
            case 13: deliver(message(7, []), to: handler)
            case 14: resolve(operation)
            default: if operation & 16 > 0 { handler.remoteEnded() }
            }
        }
        handler.closed(.reset(errorCode: 2))
        resolve(0)
    }

    func check() {
        precondition(asked <= 1 && ended <= 1, "asked \(asked) times, ended \(ended) times")
        // Where the engine's answer came before the picker's, the picker's is dropped, and the end is told all the same.
        precondition(asked == max(ended, refused), "asked \(asked), refused \(refused), ended \(ended)")
    }

    // MARK: - GRPCCall

    func send(size: Int, _ write: (UnsafeMutableRawBufferPointer) -> Void) {
        precondition(!isFinished, "sent after the end")
        unsafe withUnsafeTemporaryAllocation(byteCount: size, alignment: 1) { unsafe write($0) }
    }

    func finish(_ status: GRPCStatus) {
        precondition(!isFinished, "finished twice")
        isFinished = true
    }

    // MARK: - Picker

    func decide(_ request: ParsedRequest, for exchange: any PendingExchange) {
        asked += 1
        waiting = exchange
    }

    func firstToken(_ request: RequestID) { precondition(asked == 1 && ended == 0) }

    func served(_ request: RequestID, _ served: Served) { precondition(asked == 1) }

    func ended(_ request: RequestID, _ outcome: Outcome) {
        ended += 1
        waiting = nil
    }

    private func resolve(_ operation: UInt8) {
        guard let exchange = waiting else { return }
        if operation & 16 > 0 {
            exchange.resolve(.route(Route(destinations: ["a:1"], rewriteModel: operation & 32 > 0 ? "new" : nil)))
        } else {
            // An answer before any route is a refusal, after it an end.
            let before = ended
            exchange.resolve(.answer(ImmediateAnswer(status: 429, body: "", details: "")))
            if ended == before {
                refused += 1
                waiting = nil
            }
        }
    }

    // MARK: - Messages

    private func deliver(_ message: [UInt8], to handler: any GRPCCallHandler) {
        unsafe message.withUnsafeBytes { unsafe handler.received($0) }
    }

    /// The fuzzer's next bytes: as many as the first of them says, times four.
    private func take() -> [UInt8] {
        let count = Int(input.popFirst() ?? 0) * 4
        let bytes = Array(input.prefix(count))
        input = input.dropFirst(count)
        return bytes
    }

    private func message(_ field: UInt8, _ content: [UInt8]) -> [UInt8] { Self.data(field, content) }

    private static func data(_ field: UInt8, _ content: [UInt8]) -> [UInt8] {
        let size = content.count
        return [field << 3 | 2, UInt8(size & 0x7F) | 0x80, UInt8(size >> 7 & 0x7F) | 0x80, UInt8(size >> 14 & 0x7F)]
            + content
    }

    private static func header(_ name: String, _ value: [UInt8]) -> [UInt8] {
        data(1, data(1, Array(name.utf8)) + data(3, value))
    }

    private func headers(_ operation: UInt8) -> [UInt8] {
        let path = Self.paths[Int(operation >> 5) % Self.paths.count]
        let map = Self.header(":path", Array(path.utf8)) + Self.header("x-slo-ttft-ms", take())
        return Self.data(1, map) + (operation & 16 > 0 ? [3 << 3, 1] : [])
    }

    private func modes(_ operation: UInt8) -> [UInt8] {
        guard let choice = input.popFirst() else { return [] }
        return Self.data(11, [1 << 3, choice & 7, 2 << 3, choice >> 3 & 7])
    }

    private func responseHeaders(_ operation: UInt8) -> [UInt8] {
        let type = operation & 32 > 0 ? "text/event-stream" : "application/json"
        let status = operation & 64 > 0 ? "503" : "200"
        let map = Self.header(":status", Array(status.utf8)) + Self.header("content-type", Array(type.utf8))
        return Self.data(1, map) + (operation & 16 > 0 ? [3 << 3, 1] : [])
    }

    private func body(_ operation: UInt8) -> [UInt8] {
        Self.data(1, take()) + (operation & 16 > 0 ? [2 << 3, 1] : [])
    }
}
