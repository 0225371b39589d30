// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Router

/// What the exchange asks of the picker's inside. One per loop, confined to it.
///
/// `decide` answers later or at once, by calling `exchange.resolve` on the same loop. Every request that was asked about
/// is told to have `ended` exactly once, unless it was refused.
package protocol Picker: AnyObject {
    /// A request whose body is on its way. Asks for `stalled` to be called when that takes too long.
    ///
    /// - Returns: nil where bodies may take any time.
    func uploadBegan(of exchange: any PendingExchange) -> (any UploadDeadline)?
    /// A request whose body is complete.
    func decide(_ request: ParsedRequest, for exchange: any PendingExchange)
    /// The first bytes of the answer's body were seen.
    func firstToken(_ request: RequestID)
    /// The answer says where another picker sent a request that this one only watches.
    func served(_ request: RequestID, _ served: Served)
    /// The exchange is over, of whatever cause, before or after it was resolved.
    func ended(_ request: RequestID, _ outcome: Outcome)
}

/// An exchange that waits for its verdict.
package protocol PendingExchange: AnyObject {
    func resolve(_ verdict: Verdict)
    /// The body has been on its way for too long.
    func stalled()
}

/// Runs until the body has come.
package protocol UploadDeadline {
    func cancel()
}

package enum Verdict: Sendable, Hashable {
    case route(Route)
    case answer(ImmediateAnswer)
}

/// Where to send a request, as the wire needs it.
package struct Route: Sendable, Hashable {
    /// `ip:port`, first choice first. Exactly one unless the gateway takes a list.
    package var destinations: [String]
    /// `ip:port` of the prefill pod. nil: the destination prefills itself.
    package var prefiller: String?
    /// `ip:port` of a third pod to pull a prefix from.
    package var kvSource: String?
    /// Value of the header that tells the client of the decision. nil: none is set.
    package var decision: String?
    /// New value of the body's top-level `model`. nil leaves the body byte for byte.
    package var rewriteModel: String?
    /// New value of the body's top-level `priority`, which is put there where the client sent none. nil leaves the body.
    package var enginePriority: Int?

    package init(
        destinations: [String],
        prefiller: String? = nil,
        kvSource: String? = nil,
        rewriteModel: String? = nil,
        enginePriority: Int? = nil,
        decision: String? = nil
    ) {
        self.destinations = destinations
        self.prefiller = prefiller
        self.kvSource = kvSource
        self.rewriteModel = rewriteModel
        self.enginePriority = enginePriority
        self.decision = decision
    }
}

/// An HTTP answer of the picker's own.
package struct ImmediateAnswer: Sendable, Hashable {
    package var status: Int
    package var headers: [Header]
    package var body: String
    /// Shown by Envoy as RESPONSE_CODE_DETAILS.
    package var details: String

    package struct Header: Sendable, Hashable {
        package var name: String
        package var value: String

        package init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    package init(status: Int, headers: [Header] = [], body: String, details: String) {
        self.status = status
        self.headers = headers
        self.body = body
        self.details = details
    }
}
