// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Gateway

/// How a server listens, and what its connections may use.
package struct ServerOptions: Sendable {
    /// An IP address to listen on. nil: every address, of both families where the host has IPv6.
    package var address: String?
    /// 0: the kernel chooses.
    package var port: UInt16
    package var http2: HTTP2Limits
    /// Room that what connections hold is counted against.
    package var budget: BodyBudget?
    /// Above it a new connection is closed at once. Each Envoy worker thread needs one or two.
    package var maxConnections = 10_000
    /// A connection without a stream for so long is ended by GOAWAY. Envoy's health check comes every few seconds.
    package var idleTimeout = Duration.seconds(3600)
    /// From the TCP handshake to the end of the TLS handshake and HTTP/2's preface.
    package var handshakeTimeout = Duration.seconds(10)
    /// A peer that takes none of the bytes offered to it for so long is cut off.
    package var writeStallTimeout = Duration.seconds(30)
    /// The system calls of connections. Tests put failing ones here.
    package var sockets: any SocketIO = KernelSockets()

    package init(address: String? = nil, port: UInt16, http2: HTTP2Limits = HTTP2Limits(), budget: BodyBudget? = nil) {
        self.address = address
        self.port = port
        self.http2 = http2
        self.budget = budget
    }
}

/// What a server has seen since its start.
package struct ServerStatistics: Sendable, Hashable {
    package var connectionsOpen = 0
    package var connectionsAccepted: UInt64 = 0
    /// Closed at once, being too many.
    package var connectionsRefused: UInt64 = 0
    /// Ended by a TLS, HTTP/2 or socket error, or a time-out.
    package var connectionsFailed: UInt64 = 0
    /// Of these, in the TLS handshake.
    package var handshakesFailed: UInt64 = 0
    package var bytesReceived: UInt64 = 0
    package var bytesSent: UInt64 = 0
    package var streamsOpened: UInt64 = 0
    package var streamsClosed: UInt64 = 0
    package var streamsReset: UInt64 = 0
    package var streamsViolated: UInt64 = 0
    package var messagesReceived: UInt64 = 0
    package var messagesSent: UInt64 = 0

    package init() {}
}
