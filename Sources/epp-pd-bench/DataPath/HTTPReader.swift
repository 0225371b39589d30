// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The head of an HTTP/1.1 message, as far as the programs of this folder look at it. Names in lower case.
struct HTTPHead {
    var firstLine = ""
    var fields: [(name: String, value: String)] = []

    init(_ bytes: some Sequence<UInt8>) {
        let lines = String(decoding: Array(bytes), as: UTF8.self).split(separator: "\r\n")
        firstLine = lines.first.map(String.init) ?? ""
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            fields.append((line[..<colon].lowercased(), String(value)))
        }
    }

    subscript(_ name: String) -> String? { fields.first { $0.name == name }?.value }

    func number(_ name: String) -> Int? { self[name].flatMap { Int($0) } }

    var status: Int { Int(firstLine.split(separator: " ").dropFirst().first ?? "") ?? 0 }
}

/// Reads HTTP/1.1 messages one after the other, in pieces cut anywhere. Keeps no body.
struct HTTPReader {
    private enum State {
        case head
        case body(left: Int)
        /// The digits of a chunk's size.
        case size(Int)
        case sizeEnd(Int)
        case chunk(left: Int)
        /// CRLF behind a chunk.
        case chunkEnd(left: Int)
        /// The empty line behind the last chunk; there are no trailers here.
        case last(left: Int)
    }

    private var state = State.head
    private var gathered: [UInt8] = []
    private var matched = 0
    private(set) var head: HTTPHead?
    /// Of the current message's body.
    private(set) var bodyBytes = 0

    /// Takes bytes of one message.
    ///
    /// - Returns: true once it is complete. Nothing may follow it before it is answered.
    mutating func read(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var index = 0
        while index < bytes.count {
            switch state {
            case .head:
                let byte = unsafe bytes[index]
                gathered.append(byte)
                index += 1
                let isNext = byte == (matched % 2 == 0 ? 0x0D : 0x0A)
                matched = isNext ? matched + 1 : (byte == 0x0D ? 1 : 0)
                if matched == 4, headEnded() { return true }
            case .body(let left):
                let taken = min(left, bytes.count - index)
                bodyBytes += taken
                index += taken
                if left == taken { return ended() }
                state = .body(left: left - taken)
            case .size(let size):
                let byte = unsafe bytes[index]
                index += 1
                if let digit = Character(Unicode.Scalar(byte)).hexDigitValue {
                    state = .size(size &* 16 &+ digit)
                } else {
                    state = .sizeEnd(size)
                }
            case .sizeEnd(let size):
                if unsafe bytes[index] == 0x0A { state = size == 0 ? .last(left: 2) : .chunk(left: size) }
                index += 1
            case .chunk(let left):
                let taken = min(left, bytes.count - index)
                bodyBytes += taken
                index += taken
                state = left == taken ? .chunkEnd(left: 2) : .chunk(left: left - taken)
            case .chunkEnd(let left):
                index += 1
                state = left == 1 ? .size(0) : .chunkEnd(left: left - 1)
            case .last(let left):
                index += 1
                if left == 1 { return ended() }
                state = .last(left: left - 1)
            }
        }
        return false
    }

    /// - Returns: true where no body follows.
    private mutating func headEnded() -> Bool {
        let head = HTTPHead(gathered)
        self.head = head
        gathered.removeAll(keepingCapacity: true)
        matched = 0
        bodyBytes = 0
        if head["transfer-encoding"] == "chunked" {
            state = .size(0)
        } else if let length = head.number("content-length"), length > 0 {
            state = .body(left: length)
        } else {
            return ended()
        }
        return false
    }

    private mutating func ended() -> Bool {
        state = .head
        return true
    }
}
