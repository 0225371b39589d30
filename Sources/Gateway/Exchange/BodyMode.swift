// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// How Envoy hands over the bodies of one direction: `envoy.extensions.filters.http.ext_proc.v3.ProcessingMode.BodySendMode`.
package enum BodyMode: Sendable, Hashable {
    /// Bodies are not sent.
    case none
    /// Chunk by chunk; each chunk takes one answer before the next may pass.
    case streamed
    /// One message with the whole body, held until it is answered.
    case buffered
    /// Chunks go to the picker and come back as it sees fit.
    case fullDuplex
    /// A mode of a newer Envoy.
    case unsupported

    init(wire: Int32) {
        self =
            switch wire {
            case 0: .none
            // BUFFERED_PARTIAL sends one message with perhaps half a body: like a stream, it cannot be routed by its body,
            // and takes one bare answer.
            case 1, 3: .streamed
            case 2: .buffered
            case 4: .fullDuplex
            default: .unsupported
            }
    }
}

/// The modes of both directions.
package struct BodyModes: Sendable, Hashable {
    package var request: BodyMode
    package var response: BodyMode

    package init(request: BodyMode, response: BodyMode) {
        self.request = request
        self.response = response
    }

    package static let fullDuplex = BodyModes(request: .fullDuplex, response: .fullDuplex)
}
