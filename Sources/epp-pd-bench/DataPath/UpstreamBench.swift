// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Glibc

/// `epp-pd-bench upstream`: model servers for load, on many ports of one thread.
struct UpstreamBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upstream",
        abstract: "Answer as model servers do, on many ports, as fast as one thread can.",
        discussion: """
            A POST is answered with 206 bytes of JSON, or, where it bears x-chunks, with so many server-sent events of 200 \
            bytes; x-gap-ms spaces them, x-first-ms delays the first. The destination that the request bears comes back in \
            x-destination. GET /bench/stats counts.
            """
    )

    @Option(help: "First port.") var port: UInt16
    @Option(help: "Ports in a row.") var pods = 1
    @Option(help: "Name of the model.") var model = "bench-model"
    @Option(help: "File with the page for GET /metrics.") var page: String
    @Flag(help: "The number of running requests on each page differs from the one before.") var pageChanges = false

    func validate() throws {
        guard (1...10_000).contains(pods), Int(port) + pods <= 65_536 else { throw ValidationError("pods 1…10000") }
    }

    func run() throws {
        guard let file = unsafe fopen(page, "r") else { throw ValidationError("cannot read \(page)") }
        var text = [UInt8](repeating: 0, count: 4 << 20)
        text.removeLast(text.count - (unsafe fread(&text, 1, text.count, file)))
        unsafe fclose(file)
        let loop = SocketLoop()
        let server = UpstreamServer(model: model, page: text, pageChanges: pageChanges)
        for offset in 0..<pods {
            guard let descriptor = Loopback.listen(port: port + UInt16(offset)) else {
                throw ValidationError("cannot listen on port \(Int(port) + offset)")
            }
            loop.add(UpstreamListener(descriptor, loop, server))
        }
        loop.run()
    }
}

/// What all connections share.
final class UpstreamServer {
    /// A chat completion of vLLM without its optional parts.
    static let answer = Array(
        (#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"bench-model","choices":[{"index":0,"#
            + #""message":{"role":"assistant","content":"hello"}}],"usage":{"prompt_tokens":500,"completion_tokens":1}}"#
            + " ").utf8
    )
    /// One event of a stream: 200 bytes.
    static let event: [UInt8] = {
        let start = #"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench-model","#
        let choice = #""choices":[{"index":0,"delta":{"content":"some word"},"logprobs":null,"finish_reason":null}]}"#
        let text = start + choice
        return Array((text.dropLast() + String(repeating: " ", count: max(0, 198 - text.utf8.count)) + "}\n\n").utf8)
    }()
    static let lastEvents = Array(
        (#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":500,"#
            + #""completion_tokens":1000,"total_tokens":1500}}"# + "\n\ndata: [DONE]\n\n").utf8
    )

    var requests = 0
    var answers = 0
    var withoutDestination = 0
    private let modelList: [UInt8]
    private var page: [UInt8]
    /// Where the digit of `vllm:num_requests_running` stands that changes.
    private var digit: Int?

    init(model: String, page: [UInt8], pageChanges: Bool) {
        let entry = #"{"id":"\#(model)","object":"model","created":0,"owned_by":"bench"}"#
        modelList = Array(#"{"object":"list","data":[\#(entry)]}"#.utf8)
        self.page = page
        guard pageChanges else { return }
        let name = Array("\nvllm:num_requests_running{".utf8)
        let start = page.indices.first { page[$0...].starts(with: name) }
        digit = start.flatMap { start in page[start...].dropFirst().firstIndex(of: 0x7D).map { $0 + 2 } }
    }

    func respond(to path: Substring) -> [UInt8] {
        switch path {
        case "/metrics":
            if let digit { page[digit] = page[digit] == 0x31 ? 0x32 : 0x31 }
            return Self.head("text/plain; version=0.0.4", page.count) + page
        case "/v1/models": return Self.head("application/json", modelList.count) + modelList
        case "/bench/stats":
            let text = #"{"requests":\#(requests),"answers":\#(answers),"withoutDestination":\#(withoutDestination)}"#
            return Self.head("application/json", text.utf8.count) + Array(text.utf8)
        default: return Array("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".utf8)
        }
    }

    static func head(_ type: String, _ count: Int, _ more: String = "") -> [UInt8] {
        let length = count < 0 ? "transfer-encoding: chunked" : "content-length: \(count)"
        return Array("HTTP/1.1 200 OK\r\nserver: bench\r\ncontent-type: \(type)\r\n\(more)\(length)\r\n\r\n".utf8)
    }

    static func chunk(_ bytes: [UInt8]) -> [UInt8] {
        Array((String(bytes.count, radix: 16) + "\r\n").utf8) + bytes + Array("\r\n".utf8)
    }
}

private final class UpstreamListener: LoopSocket {
    private let server: UpstreamServer

    init(_ descriptor: Int32, _ loop: SocketLoop, _ server: UpstreamServer) {
        self.server = server
        super.init(descriptor, loop)
    }

    override func ready(_ events: UInt32) {
        while let accepted = Loopback.accept(descriptor) { loop.add(UpstreamConnection(accepted, loop, server)) }
    }
}

private final class UpstreamConnection: LoopSocket {
    private static let eventChunk = UpstreamServer.chunk(UpstreamServer.event)
    private static let lastChunk = UpstreamServer.chunk(UpstreamServer.lastEvents) + Array("0\r\n\r\n".utf8)
    private let server: UpstreamServer
    private var reader = HTTPReader()
    private var eventsLeft = 0
    private var gap = 0
    private var pendingHead: [UInt8]?

    init(_ descriptor: Int32, _ loop: SocketLoop, _ server: UpstreamServer) {
        self.server = server
        super.init(descriptor, loop)
    }

    override func received(_ bytes: UnsafeRawBufferPointer) {
        guard unsafe reader.read(bytes), let head = reader.head else { return }
        let words = head.firstLine.split(separator: " ")
        guard words.count == 3, words[0] == "POST" else {
            return write(server.respond(to: words.count > 1 ? words[1] : ""))
        }
        server.requests += 1
        let destination = head["x-gateway-destination-endpoint"]
        if destination == nil { server.withoutDestination += 1 }
        let mark = destination.map { "x-destination: \($0)\r\n" } ?? ""
        guard let chunks = head.number("x-chunks"), chunks > 0 else {
            server.answers += 1
            return write(
                UpstreamServer.head("application/json", UpstreamServer.answer.count, mark) + UpstreamServer.answer
            )
        }
        eventsLeft = chunks
        gap = head.number("x-gap-ms") ?? 0
        pendingHead = UpstreamServer.head("text/event-stream", -1, mark)
        if let first = head.number("x-first-ms"), first > 0 { loop.wake(self, after: first) } else { woke() }
    }

    override func woke() {
        if let head = pendingHead {
            write(head)
            pendingHead = nil
        }
        if gap > 0 {
            write(Self.eventChunk)
            eventsLeft -= 1
            guard eventsLeft <= 0 else { return loop.wake(self, after: gap) }
        } else {
            write(Array(repeatElement(Self.eventChunk, count: eventsLeft).joined()))
        }
        server.answers += 1
        write(Self.lastChunk)
    }
}
