// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// What the host remembers of one request from its arrival to its end.
struct Flight {
    var arrivedAt: Instant
    /// The name that the client used, for labels.
    var model: String?
    var isInference: Bool
    var streams: Bool
    var promptTokens: Int
    var outputTokens: Int
    var serviceLevel: ServiceLevel
    var dispatchedAt: Instant?
    var decision: Decision?
    var firstTokenAt: Instant?
}
