// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Router

/// What the headers of an answer say of its end.
package struct UpstreamAnswer: Sendable, Hashable {
    package var status: Int?
    /// Envoy made it up: it had no answer from the pod.
    package var isLocal: Bool

    package init(status: Int?, isLocal: Bool = false) {
        self.status = status
        self.isLocal = isLocal
    }

    /// How the request ended when this answer came to its end.
    var kind: Outcome.Kind {
        if isLocal { return .unreachable }
        return isFailure ? .failed : .completed
    }

    var isFailure: Bool { (status ?? 200) >= 400 }
}

extension ExchangeMachine {
    /// What happened. Bodies are named by their size: their bytes stay with whoever drives the machine.
    package enum Input: Sendable, Hashable {
        /// - contentLength: what the client announced.
        /// - modes: from `protocol_config`; nil where Envoy sent none.
        case requestHeaders(endOfStream: Bool, contentLength: Int?, modes: BodyModes?)
        case requestBody(count: Int, endOfStream: Bool)
        case requestTrailers
        case responseHeaders(UpstreamAnswer, endOfStream: Bool)
        case responseBody(count: Int, endOfStream: Bool)
        case responseTrailers
        /// The picker's verdict on a request that `ask` put to it. A second one, an answer, cuts a routed request short.
        case resolved(Verdict)
        /// The gateway itself refuses a request that the picker does not know of yet.
        case rejected(ImmediateAnswer)
        /// What cannot be decoded, or is not implemented.
        case violation(GRPCStatus)
        /// Envoy half-closed.
        case remoteEnded
        case closed(GRPCCallEnd)
    }

    /// What must now be done, in order.
    ///
    /// Large payloads are boxed: most actions have none, and are then a few bytes to copy.
    package enum Action: Sendable, Hashable {
        /// Keep this body chunk.
        case gather
        /// Put the request to the picker; with the gathered body where it is whole, else by its headers alone.
        case ask(wholeBody: Bool)
        /// Ask for other modes than Envoy's configuration has: the request's body, and the response's too or not.
        case overrideModes(showsResponse: Bool)
        /// Answer the request headers: along the route, or let them pass bare because the route comes with the body.
        case answerRequestHeaders(Route?)
        /// Send the gathered body back in pieces.
        case sendGathered(endOfStream: Bool)
        /// Answer a buffered body: along the route.
        case answerBufferedBody(Route)
        /// Let one chunk of request body pass.
        case passRequestBody
        case answerRequestTrailers
        case answerResponseHeaders
        /// Read this chunk of the answer for its usage.
        case observe
        /// Send this chunk of response body back in pieces.
        case echoResponseBody(endOfStream: Bool)
        /// Let one chunk of response body pass.
        case passResponseBody
        case answerResponseTrailers
        indirect case answerImmediately(ImmediateAnswer)
        /// The body is no longer needed.
        case dropGathered
        case firstToken
        /// Comes once for each request that was asked about and not refused.
        case ended(Outcome.Kind, status: Int?, isEarly: Bool)
        case finish(GRPCStatus)
    }
}
