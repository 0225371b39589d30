// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// The half of a pair's cost that depends on the prefill pod alone, and lower bounds for the search.
struct PrefillPart {
    /// Index of the pod in the frame.
    var pod = 0
    var queueing = 0.0
    var prefill = 0.0
    /// Engine steps that it takes, where it shares them with decodes.
    var steps = 1.0
    var pull = 0.0
    var overhead = 0.0
    /// Seconds that later prompts are pushed back.
    var others = 0.0
    var busy = 0.0
    var eviction = 0.0
    var cachedTokens = 0
    var pullFrom: EndpointID?
    /// 90 % margin of the time to the first token, in seconds.
    var margin = 0.0
    /// This pod's part of the decision's draw.
    var share = 0.0
    var mayPair = false
    var kvClass = 0
    var network = 0.0
    var kvBytes = 0.0
}

/// The half of a candidate's cost that depends on the decode pod alone.
struct DecodePart {
    var pod = 0
    var admission = 0.0
    /// Step time with this request in the batch, stretched by prompts that the pod computes itself.
    var step = 0.0
    var stepBefore = 0.0
    /// Step time without that stretch.
    var plainStep = 0.0
    var decode = 0.0
    /// Seconds that the sequences already there lose.
    var others = 0.0
    var busy = 0.0
    var overflowProbability = 0.0
    var overflow = 0.0
    var tpotMiss = 0.0
    /// Prompt tokens whose KV the pod does not hold yet.
    var missingTokens = 0.0
    /// Tokens that the windows of layers with one weigh beside these.
    var windowTokens = 0.0
    var share = 0.0
    var mayPair = false
    var kvClass = 0
    var network = 0.0
    var kvBytes = 0.0
    var memory = 0.0
    var layers = 1.0
}

/// What the search scans of a prefill part: the rest is worked out again for the few pairs that are priced.
struct PrefillRow {
    var bound: Double
    var transferBound: Double
    var miss: Double
    var share: Double
    /// What any pair of the row costs at least, the draw included.
    var least: Double
}

/// What the search scans of a decode part.
struct DecodeColumn {
    var bound: Double
    var transferBound: Double
    var miss: Double
    var share: Double
    var missingTokens: Double
    var step: Double
}

/// What every decode pod costs at least.
struct DecodeFloor {
    var bound = Double.infinity
    /// Bound and transfer together: what holds more of the prompt is not always what is cheap.
    var withTransfer = Double.infinity
    var miss = 1.0
    var share = 1.0
    /// Seconds to the first token that the decode pod adds.
    var delay = Double.infinity
    var missingTokens = Double.infinity
    var network = 0.0
}

/// What depends on both halves.
struct CandidateCost {
    var transfer: Double
    var firstStep: Double
    /// Seconds that sequences decoding there stand still for this prompt.
    var stalled: Double
    var missed: Double
    var time: Double
    var others: Double
    var miss: Double
    var total: Double
}
