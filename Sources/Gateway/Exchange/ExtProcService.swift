// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Router

/// Answers Envoy's external processing calls: `envoy.service.ext_proc.v3.ExternalProcessor`. One per loop, confined to it.
package final class ExtProcService: GRPCService {
    package static let path = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"

    let picker: any Picker
    let options: ExchangeOptions
    let budget: BodyBudget
    let encoder: ResponseEncoder
    @exclusivity(unchecked) var heads: HeadReader
    @exclusivity(unchecked) var bodies: InferenceBodyReader
    private(set) weak var observer: (any ExchangeObserver)?
    private let makeRequestID: () -> RequestID
    /// Whether an exchange whose response bodies are not sent has shown its response's headers. Envoy sends them for all
    /// exchanges of a listener or for none; until one has come, their lack says nothing.
    var seesHeadersAlone = false
    /// Shares of exchanges that were passed over, until they make a whole one.
    private var sampledPart = 0.0
    /// What machines have asked for and is not done yet, as a stack: what an action causes goes on top, and is done first.
    ///
    /// Not checked for overlapping accesses, like the two readers: nobody is called while they change.
    @exclusivity(unchecked) var actions: [ExchangeMachine.Action] = []

    /// - Parameters:
    ///   - picker: asked on this loop.
    ///   - options: how the exchange behaves.
    ///   - budget: room for bodies, shared by all loops.
    ///   - observer: held weakly.
    ///   - makeRequestID: gives a number that no other request of this process has.
    package init(
        picker: any Picker,
        options: ExchangeOptions = ExchangeOptions(),
        budget: BodyBudget = BodyBudget(limit: .max),
        observer: (any ExchangeObserver)? = nil,
        makeRequestID: @escaping () -> RequestID
    ) {
        self.picker = picker
        self.options = options
        self.budget = budget
        self.observer = observer
        self.makeRequestID = makeRequestID
        encoder = ResponseEncoder(names: options.headerNames)
        unsafe heads = HeadReader(options.headerNames)
        unsafe bodies = InferenceBodyReader(options)
    }

    /// Whether the next exchange is sampled: evenly spread, so that the share holds for few requests too.
    func samplesNext() -> Bool {
        sampledPart += options.overriddenShare ?? 0
        guard sampledPart >= 1 else { return false }
        sampledPart -= 1
        return true
    }

    package func handler(path: String, call: any GRPCCall) -> (any GRPCCallHandler)? {
        path == Self.path ? Exchange(id: makeRequestID(), call: call, service: self) : nil
    }
}
