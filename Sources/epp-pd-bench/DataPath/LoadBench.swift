// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Foundation

/// `epp-pd-bench load`: chat completions over HTTP/1.1 connections that are kept.
struct LoadBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load",
        abstract: "Send chat completions to 127.0.0.1 and count what comes back.",
        discussion: """
            Only answers with status 200 and x-destination, which `upstream` copies from the request that reached it, count \
            as answered; all others as astray. Prints one JSON object. Exit codes: 0, 1 when an answer was astray or missing.
            """
    )

    @Option(help: "Port, on 127.0.0.1.") var port: UInt16
    @Option(help: "Connections, each with one request at a time.") var connections = 1
    @Option(help: "Requests in all.") var requests = 1_000
    @Option(help: "Send at this rate per second, on whatever connection is free; 0: each connection as fast as it can.")
    var rate = 0
    @Option(help: "Size of a body in bytes.") var bodyBytes = 2_048
    @Option(help: "Different prompts, used in turn. A quarter of each is common to all.") var prompts = 16
    @Option(help: "Events per answer; 0: JSON.") var chunks = 0
    @Option(help: "Milliseconds between two events.") var gapMs = 0
    @Option(help: "Milliseconds before an answer's head.") var firstMs = 0
    @Option(help: "Name of the model.") var model = "bench-model"
    @Option(help: "Seconds after which what is missing is given up.") var timeLimit = 120.0

    func validate() throws {
        guard (1...20_000).contains(connections), requests > 0, (0...1_000_000).contains(rate),
            (256...16 << 20).contains(bodyBytes), (1...4_096).contains(prompts), bodyBytes * prompts <= 1 << 30,
            (0...100_000).contains(chunks), (0...SocketLoop.longestDelay).contains(gapMs),
            (0...SocketLoop.longestDelay).contains(firstMs), timeLimit > 0
        else { throw ValidationError("an option is out of its range") }
    }

    func run() throws {
        let loop = SocketLoop()
        let bodies = (0..<prompts).map { LoadPrompt.body(bytes: bodyBytes, model: model, number: $0) }
        let headers = "x-chunks: \(chunks)\r\nx-gap-ms: \(gapMs)\r\nx-first-ms: \(firstMs)\r\n"
        let course = LoadCourse(bodies: bodies, headers: headers, requests: requests, rate: rate)
        for _ in 0..<min(connections, requests) {
            guard let descriptor = Loopback.connect(port: port) else {
                throw ValidationError("no connection to port \(port)")
            }
            let client = LoadClient(descriptor, loop, course)
            loop.add(client)
            course.clients.append(client)
        }
        course.start(loop, deadline: Measurement.wall + timeLimit)
        loop.run()
        let report = course.report
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        print(String(decoding: try encoder.encode(report), as: UTF8.self))
        if report.astray > 0 || report.answered < requests { throw ExitCode(1) }
    }
}

/// What a load found. Times in microseconds of the wall.
struct LoadReport: Encodable {
    var answered = 0
    var astray = 0
    var seconds = 0.0
    var body_bytes = 0
    var p50_us = 0.0
    var p99_us = 0.0
    /// From the request to the answer's first bytes.
    var first_p50_us = 0.0
    var first_p99_us = 0.0
    /// Requests that a rate asked for while no connection was free; they were sent later.
    var late = 0
    /// Of answers that were astray.
    var statuses: [String: Int] = [:]
}

/// Prompts of words, with the escapes that text in JSON has, so that they are not the easiest case.
enum LoadPrompt {
    private static let words = """
        the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one \
        you were her all she there would their we him been has when who will more no if out so
        """.split(separator: " ").map(String.init)

    static func body(bytes: Int, model: String, number: Int) -> [UInt8] {
        let stream = #""stream":true"#
        let start = #"{"model":"\#(model)",\#(stream),"max_tokens":1000,"messages":[{"role":"system","content":""#
        let middle = #""},{"role":"user","content":""#
        let end = #""}]}"#
        let room = max(bytes - start.utf8.count - middle.utf8.count - end.utf8.count, 2)
        return Array(start.utf8) + text(room / 4, seed: 1) + Array(middle.utf8)
            + text(room - room / 4, seed: UInt64(number) + 2) + Array(end.utf8)
    }

    /// So many bytes of words; about every twentieth ends a line, as `\n`.
    private static func text(_ bytes: Int, seed: UInt64) -> [UInt8] {
        var random = WorkloadRandom(seed)
        var text: [UInt8] = []
        text.reserveCapacity(bytes + 16)
        while text.count < bytes {
            let draw = random.next()
            text += words[Int(draw % UInt64(words.count))].utf8
            text += (draw >> 32) % 20 == 0 ? [0x5C, 0x6E] : [0x20]
        }
        text.removeLast(text.count - bytes)
        // A cut escape would take the quote behind it along.
        if text.last == 0x5C { text[text.count - 1] = 0x20 }
        return text
    }
}

/// One load from its first request to its last answer.
private final class LoadCourse {
    var clients: [LoadClient] = []
    private let messages: [[UInt8]]
    private let total: Int
    private let rate: Int
    private var sent = 0
    private var ended = 0
    private var began = 0.0
    private var deadline = Double.infinity
    private var idle: [LoadClient] = []
    private var debt = 0.0
    private var latencies: Samples
    private var firsts: Samples
    private(set) var report = LoadReport()
    private weak var loop: SocketLoop?

    init(bodies: [[UInt8]], headers: String, requests: Int, rate: Int) {
        messages = bodies.map { body in
            let head = """
                POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nuser-agent: bench\r
                \(headers)content-length: \(body.count)\r\n\r\n
                """
            return Array(head.utf8) + body
        }
        total = requests
        self.rate = rate
        latencies = Samples(capacity: requests)
        firsts = Samples(capacity: requests)
    }

    func start(_ loop: SocketLoop, deadline: Double) {
        self.loop = loop
        self.deadline = deadline
        began = Measurement.wall
        loop.everyMillisecond = { [weak self] in self?.everyMillisecond() }
        guard rate == 0 else { return idle = clients }
        for client in clients { next(client) }
    }

    /// Gives a client that is free its next request.
    func next(_ client: LoadClient) {
        guard sent < total else { return }
        guard rate == 0 else { return idle.append(client) }
        send(client)
    }

    func answered(_ client: LoadClient, head: HTTPHead, bodyBytes: Int) {
        if head.status == 200, head["x-destination"] != nil {
            report.answered += 1
            report.body_bytes += bodyBytes
            latencies.add(Measurement.nanoseconds - client.began)
            firsts.add(client.firstByte - client.began)
        } else {
            report.astray += 1
            report.statuses["\(head.status)", default: 0] += 1
        }
        finished()
        next(client)
    }

    func failed() {
        report.astray += 1
        report.statuses["closed", default: 0] += 1
        finished()
    }

    private func send(_ client: LoadClient) {
        client.begin(messages[sent % messages.count])
        sent += 1
    }

    private func finished() {
        ended += 1
        if ended >= total { end() }
    }

    private func everyMillisecond() {
        if Measurement.wall > deadline { return end() }
        guard rate > 0 else { return }
        debt += Double(rate) / 1_000
        while debt >= 1, sent < total {
            guard let client = idle.popLast() else {
                report.late += 1
                return
            }
            debt -= 1
            send(client)
        }
    }

    private func end() {
        report.seconds = Measurement.wall - began
        report.p50_us = Double(latencies.quantile(0.5)) / 1_000
        report.p99_us = Double(latencies.quantile(0.99)) / 1_000
        report.first_p50_us = Double(firsts.quantile(0.5)) / 1_000
        report.first_p99_us = Double(firsts.quantile(0.99)) / 1_000
        loop?.isDone = true
    }
}

private final class LoadClient: LoopSocket {
    private unowned let course: LoadCourse
    private var reader = HTTPReader()
    private var isWaiting = false
    private(set) var began: UInt64 = 0
    private(set) var firstByte: UInt64 = 0

    init(_ descriptor: Int32, _ loop: SocketLoop, _ course: LoadCourse) {
        self.course = course
        super.init(descriptor, loop)
    }

    func begin(_ message: [UInt8]) {
        isWaiting = true
        firstByte = 0
        began = Measurement.nanoseconds
        write(message)
    }

    override func received(_ bytes: UnsafeRawBufferPointer) {
        if firstByte == 0 { firstByte = Measurement.nanoseconds }
        guard unsafe reader.read(bytes), let head = reader.head else { return }
        isWaiting = false
        course.answered(self, head: head, bodyBytes: reader.bodyBytes)
    }

    override func ended() {
        if isWaiting { course.failed() }
        isWaiting = false
    }
}
