// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Fleet

@Suite("Prompts cut into tokens by engines")
struct EngineTokenizerTests {
    private static func read(_ text: String) -> [UInt32]? { TokenList.read(Array(text.utf8)) }

    @Test("lists of real answers and of odd ones")
    func lists() {
        let tokenize =
            #"{"count":3,"max_model_len":1024,"tokens":[1,314,202],"token_strs":["\"tokens\":[9]","]","Ċ"]}"#
        #expect(Self.read(tokenize) == [1, 314, 202])
        #expect(Self.read(#"{"request_id":"\"tokens\":[7]","token_ids":[331, 369],"x":[1]}"#) == [331, 369])
        #expect(Self.read(#"[{"request_id":"cmpl","token_ids" : [ 4294967295 ,0]}]"#) == [4_294_967_295, 0])
        #expect(Self.read(#"{"tokens":[]}"#) == [])
        for bad in [
            "", "{", #"{"tokens":"#, #"{"tokens":[1"#, #"{"tokens":[1,]}"#, #"{"tokens":[,1]}"#, #"{"tokens":[-1]}"#,
            #"{"tokens":[4294967296]}"#, #"{"tokens":[1.5]}"#, #"{"tokens":["a"]}"#, #"{"tokens":null}"#,
            #"{"error":"tokens"}"#, #"{"a":"\"#,
        ] { #expect(Self.read(bad) == nil, "\(bad)") }
    }

    @Test("any cut and any changed byte of an answer does no harm", arguments: [11, 12] as [UInt64])
    func hostile(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let whole = Array(#"{"count":3,"tokens":[1,314,202],"token_strs":["a\"b"]}"#.utf8)
        for _ in 0..<5_000 {
            var bytes = Array(whole.prefix(Int(random.next() % UInt64(whole.count + 1))))
            if !bytes.isEmpty {
                bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
            }
            let tokens = TokenList.read(bytes)
            #expect((tokens?.count ?? 0) <= bytes.count)
        }
    }

    @Test("an engine that is not there answers nil, and too many questions are refused")
    func absent() throws {
        let tokenizer = EngineTokenizer(connections: 1)
        let answers = Mutex<[[UInt32]?]>([])
        let question = EngineTokenizer.Question(url: "http://127.0.0.1:1/tokenize", body: Array("{}".utf8))
        var taken = 0
        // Not started yet: all of them wait.
        for _ in 0..<400
        where tokenizer.ask(question, within: .init(5), answer: { found in answers.withLock { $0.append(found) } }) {
            taken += 1
        }
        #expect(taken == 256)
        tokenizer.start()
        let end = ContinuousClock.now + .seconds(20)
        while answers.withLock({ $0.count }) < taken, ContinuousClock.now < end { usleep(10_000) }
        #expect(answers.withLock { $0.count } == taken)
        #expect(answers.withLock { $0.allSatisfy { $0 == nil } })
        tokenizer.stop()
        let isTaken = tokenizer.ask(question, within: .init(5)) { _ in }
        #expect(!isTaken)
    }
}
