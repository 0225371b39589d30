// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FlyingFox
import FlyingSocks

/// The body of a streamed answer: server-sent events as the engine generates. Dropping it cancels the job.
struct TokenStream: AsyncBufferedSequence {
    typealias Element = UInt8

    let ticket: MockEngine.Ticket
    let text: CompletionText
    let promptTokens: Int
    let outputTokens: Int
    /// Cached tokens that a prefill server reported, for usage.
    let prefillCachedTokens: Int?
    let includesUsage: Bool
    let guardian: StreamGuardian

    func makeAsyncIterator() -> Iterator {
        Iterator(stream: self, progress: ticket.progress.makeAsyncIterator())
    }

    /// The job was cancelled under the stream: the connection is cut, as a server's that dies.
    struct Cut: Error {}

    struct Iterator: AsyncBufferedIteratorProtocol {
        let stream: TokenStream
        var progress: AsyncStream<MockEngine.Progress>.Iterator
        var written = 0
        var isOver = false

        /// Buffers alone are asked for: FlyingFox's chunked encoder takes what `nextBuffer` gives as one chunk.
        mutating func next() async throws -> UInt8? { nil }

        mutating func nextBuffer(suggested count: Int) async throws -> [UInt8]? {
            guard !isOver else { return nil }
            while let word = await progress.next(isolation: nil) {
                switch word {
                case .reserved: continue
                case .generated(let generated):
                    guard let text = advance(to: generated) else { continue }
                    return Array(text.utf8)
                case .finished(let cached):
                    isOver = true
                    let usage = CompletionText.Usage(
                        promptTokens: stream.promptTokens,
                        completionTokens: stream.outputTokens,
                        cachedTokens: stream.prefillCachedTokens ?? cached
                    )
                    let rest = advance(to: stream.outputTokens) ?? ""
                    return Array((rest + stream.text.ending(stream.includesUsage ? usage : nil)).utf8)
                }
            }
            throw Cut()
        }

        /// The events of the tokens up to `generated`; nil where all are written.
        private mutating func advance(to generated: Int) -> String? {
            guard generated > written else { return nil }
            let opening = written == 0 ? stream.text.opening : ""
            defer { written = generated }
            return opening + stream.text.tokens(written..<generated, last: generated >= stream.outputTokens)
        }
    }
}
