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

/// Where to send a request, as the wire needs it. An object, since it is handed on from stage to stage and never changes.
package final class Route: Sendable, Hashable {
    /// `ip:port`, first choice first. Exactly one unless the gateway takes a list.
    package let destinations: [String]
    /// `ip:port` of the prefill pod. nil: the destination prefills itself.
    package let prefiller: String?
    /// `ip:port` of a third pod to pull a prefix from.
    package let kvSource: String?
    /// New value of the body's top-level `model`. nil leaves the body byte for byte.
    package let rewriteModel: String?
    /// New value of the body's top-level `priority`, which is put there where the client sent none. nil leaves the body.
    package let enginePriority: Int?
    /// Value of the header that tells the client of the decision. nil: none is set.
    package let decision: String?

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

    package static func == (a: Route, b: Route) -> Bool {
        a.destinations == b.destinations && a.prefiller == b.prefiller && a.kvSource == b.kvSource
            && a.rewriteModel == b.rewriteModel && a.enginePriority == b.enginePriority && a.decision == b.decision
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(destinations)
        hasher.combine(prefiller)
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
