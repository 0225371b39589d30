// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// What the host remembers of one request from its arrival to its end.
struct Flight {
    let request: RequestID
    let arrivedAt: Instant
    let model: String?
    let isInference: Bool
    let streams: Bool
    let promptTokens: Int
    let serviceLevel: ServiceLevel
    var dispatchedAt: Instant?
    var decision: Decision?
    var firstTokenAt: Instant?

    init(_ request: InferenceRequest, at now: Instant) {
        self.request = request.id
        arrivedAt = now
        model = request.model
        isInference = request.isInference
        streams = request.streams
        promptTokens = request.promptTokens
        serviceLevel = request.serviceLevel
    }
}
