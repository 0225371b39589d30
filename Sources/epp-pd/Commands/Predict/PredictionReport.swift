// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// A prediction as it is printed: a table for people, one line of JSON for machines.
struct PredictionReport: Encodable {
    var predictedMilliseconds: Double
    var errorLow: Double
    var errorHigh: Double
    var p90: Double
    var source: String
    var origin: String
    var accelerator: String
    var model: String
    var tensorParallel: Int
    var dtype: String

    enum CodingKeys: String, CodingKey {
        case predictedMilliseconds = "predicted_ms"
        case errorLow = "error_low_ms"
        case errorHigh = "error_high_ms"
        case p90 = "p90_ms"
        case source, origin, accelerator, model
        case tensorParallel = "tp"
        case dtype
    }

    init(_ estimate: PhaseEstimate, _ pod: ProfileResolution) {
        predictedMilliseconds = estimate.mean.milliseconds
        errorLow = estimate.low.milliseconds
        errorHigh = estimate.high.milliseconds
        p90 = estimate.p90.milliseconds
        source = estimate.source.rawValue
        origin = pod.origin
        accelerator = pod.accelerator
        model = pod.model
        tensorParallel = pod.tensorParallel
        dtype = pod.dtype.rawValue
    }

    func show(_ what: String, json: Bool) throws {
        guard !json else { return print(try JSONLine.encode(self)) }
        let milliseconds = { (value: Double) in Numbers.milliseconds(value / 1000) }
        print(
            """
            \(what) on \(accelerator) ×\(tensorParallel), \(model), \(dtype)
              predicted  \(milliseconds(predictedMilliseconds)) ms
              80 % band  \(milliseconds(errorLow)) to \(milliseconds(errorHigh)) ms
              source     \(source): \(origin)
            """
        )
    }
}
