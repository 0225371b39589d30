// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import Gateway

@Suite("The form of a request")
struct RequestFormTests {
    private static let whole = [(":method", "POST"), (":scheme", "http"), (":path", "/p"), (":authority", "a|b")]

    /// The place of the first field that is not well-formed, and whether all that are needed were there.
    private func read(_ fields: [(String, String)]) -> (bad: Int?, isComplete: Bool) {
        var form = RequestForm()
        for (index, field) in fields.enumerated() {
            let (name, value) = (Array(field.0.utf8), Array(field.1.utf8))
            let isGood = unsafe name.withUnsafeBufferPointer { name in
                unsafe value.withUnsafeBufferPointer { value in unsafe form.take(name: name, value: value) }
            }
            guard isGood else { return (index, form.isComplete) }
        }
        return (nil, form.isComplete)
    }

    @Test("What Envoy sends is well-formed")
    func envoy() {
        let result = read(
            Self.whole + [
                ("te", "trailers"), ("content-type", "application/grpc"), ("x-envoy-internal", "true"), ("a", ""),
                ("x-forwarded-for", "10.0.0.1"), ("content-length", "17"), ("user-agent", "\tä"),
                ("!#$%&'*+-.^_`|~", "x"),
            ]
        )
        #expect(result.bad == nil && result.isComplete)
        #expect(read(Array(Self.whole.dropLast())).isComplete)
    }

    @Test(
        "One field spoils it",
        arguments: [
            (":method", "GET"), (":status", "200"), (":protocol", "x"), (":path", "/p"), (":", "x"), ("", ""),
            ("Te", "trailers"),
            ("te", "gzip"), ("te", ""), ("connection", ""), ("keep-alive", "a"), ("upgrade", "a"),
            ("proxy-connection", "a"),
            ("transfer-encoding", "chunked"), ("content-length", "-1"), ("content-length", "1 "),
            ("content-length", ""),
            ("content-length", "9999999999999999999"), ("a:b", "c"), ("a b", "c"), ("ä", "c"), ("a", "b\r\nc"),
            ("a", "\0"),
        ]
    )
    func spoilt(_ field: (String, String)) {
        let result = read(Self.whole + [field])
        #expect(result.bad == Self.whole.count, "\(field)")
    }

    @Test("Pseudo-header fields come first, once, and hold visible characters")
    func pseudo() {
        #expect(read([("a", "b")] + Self.whole).bad == 1)
        #expect(read([(":path", "")]).bad == 0)
        #expect(read([(":path", "/a b")]).bad == 0)
        #expect(read([(":path", "/a\n")]).bad == 0)
        #expect(read([(":authority", "")]).bad == nil)
        #expect(read([(":authority", "a\0")]).bad == 0)
        for index in 0..<3 {
            var fields = Self.whole
            fields.remove(at: index)
            #expect(read(fields).isComplete == false)
        }
        #expect(read(Self.whole + [("content-length", "1"), ("content-length", "1")]).bad == 5)
    }

    @Test("Content is as long as it was said to be")
    func content() {
        #expect(lengths(nil, [1 << 40]) == [.whole])
        #expect(lengths("5", []) == [])
        #expect(lengths("5", [4, 1, 1]) == [.part, .whole, .tooMuch])
        #expect(lengths("0", [0, 1]) == [.whole, .tooMuch])
    }

    private enum Content { case part, whole, tooMuch }

    /// What is said after each piece of content.
    private func lengths(_ announced: String?, _ pieces: [Int]) -> [Content] {
        var form = RequestForm()
        if let announced {
            let (name, value) = (Array("content-length".utf8), Array(announced.utf8))
            let isGood = unsafe name.withUnsafeBufferPointer { name in
                unsafe value.withUnsafeBufferPointer { value in unsafe form.take(name: name, value: value) }
            }
            #expect(isGood)
        }
        var said: [Content] = []
        for piece in pieces {
            let isWithin = form.takeContent(piece)
            said.append(!isWithin ? .tooMuch : form.isContentComplete ? .whole : .part)
        }
        return said
    }
}
