// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What one HTTP/2 connection may use.
package struct HTTP2Limits: Sendable, Hashable {
    /// Largest gRPC message taken, before and after decompression. The reference picker's default.
    package var maxMessageBytes = 4 << 20
    /// Open streams per connection. Envoy's own default per upstream connection; above it Envoy opens another one,
    /// which may then live on another loop.
    package var maxConcurrentStreams: UInt32 = 1024
    /// Receive window per stream: holds the response messages of about 1 MiB that Envoy sends, in one flight.
    package var streamWindowBytes: Int32 = 1 << 20
    /// Receive window of the connection: several streams with full windows do not starve the others.
    package var connectionWindowBytes: Int32 = 16 << 20
    /// Largest request header list that we announce. Envoy sends a few hundred bytes.
    package var maxHeaderListBytes: UInt32 = 64 << 10
    /// Bytes queued on one stream above which its peer gets no further window, until they are sent.
    package var streamQueueHighWater = 1 << 20
    /// Bytes queued on one stream above which it is reset. Above any request body that the gateway sends on in one go.
    package var maxStreamQueueBytes = 64 << 20
    /// Bytes queued on all streams of the connection above which the stream that adds more is reset: some fifty of the
    /// largest request bodies.
    package var maxConnectionQueueBytes = 1 << 30
    /// What a connection holds is counted against the budget of all in steps of so much, so that short messages need not
    /// touch a number that all loops share.
    package var chargeStepBytes = 1 << 20

    package init() {}
}

/// Resets that one connection may send: Envoy ends each ext_proc stream with RST_STREAM, successful ones too, and
/// nghttp2's default (a burst of 1,000, then 33 a second) would end the connection. One Envoy worker thread reaches about
/// 20,000 requests a second; ten times that is still a bound on a peer that only opens and resets.
enum StreamResetRate {
    static let burst: UInt64 = 1_000_000
    static let perSecond: UInt64 = 200_000
}
