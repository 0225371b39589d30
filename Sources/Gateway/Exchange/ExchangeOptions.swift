// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import PrefixIndex

/// How the exchange behaves where the wire leaves a choice.
package struct ExchangeOptions: Sendable, Hashable {
    /// What the end of the gRPC stream means where Envoy sends no response bodies. `protocol_config` does not tell these
    /// apart: it says nothing of `response_trailer_mode`.
    package enum StreamEnd: String, Sendable, Hashable, CaseIterable {
        /// `response_trailer_mode: SEND`: Envoy keeps the stream open until the response has ended.
        case isResponseEnd
        /// `response_trailer_mode: SKIP`: Envoy ends the stream after our last answer, long before the response ends.
        case isEarly
    }

    package var headerNames = HeaderNames()
    /// Largest request body that is gathered. 20 MiB holds a prompt of a million tokens with several images.
    package var bodyLimit = 20 << 20
    /// The modes of an Envoy that sends no `protocol_config`: what today's gateways configure.
    package var assumedModes = BodyModes.fullDuplex
    package var streamEnd = StreamEnd.isResponseEnd
    /// How many destinations are named. An ORIGINAL_DST cluster takes exactly one `ip:port`.
    package var destinationLimit = 1
    /// Takes no notice of the subset hint.
    package var ignoresSubset = false
    /// Bytes of prompt text in one key.
    package var textBytesPerBlock = TextKeyHasher.defaultBytesPerBlock
    /// Token ids in one key: a size of which every engine's block size is a multiple.
    package var tokensPerBlock = TokenKeyHasher.defaultTokensPerBlock

    /// Give bodies of prompts without token ids on with the request, up to so many bytes; 0: none.
    package var keptBodyBytes = 0

    package init() {}
}
