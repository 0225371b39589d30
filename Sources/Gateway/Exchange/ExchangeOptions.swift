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
    /// Share of exchanges whose response bodies are asked for by a mode override, 0 to 1, where Envoy's own configuration
    /// sends no bodies. nil: no override is sent. Needs `allow_mode_override` and Envoy 1.40 or later; older ones, and
    /// those that were not told to allow it, take the message for an error.
    package var overriddenShare: Double?
    /// Ends the stream as soon as the request is on its way, so that Envoy goes on without the picker: nothing of the
    /// response is seen then, its end neither.
    package var skims = false
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
