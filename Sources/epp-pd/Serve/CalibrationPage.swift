// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// `/debug/calibration`: what is applied now, and what it was learned from.
struct CalibrationPage: Encodable {
    struct Pod: Encodable {
        var endpoint: String
        /// In use now; nil where the endpoint has not come back since the state was kept.
        var calibration: PodCalibration?
        var calibrator: PodCalibrator
    }

    struct Shared: Encodable {
        var configuration: String
        var prefill: Coefficients
        var decode: Coefficients
    }

    struct Coefficients: Encodable {
        var samples: Int
        /// Rolling mean relative errors: with these factors, and with a scale alone.
        var error: Double
        var scaleError: Double
        /// What each term of the profile would be multiplied by, and whether it is.
        var factors: PredictionTerms
        var isUsed: Bool
    }

    struct Transfer: Encodable {
        var pair: String
        var samples: Int
        /// Beyond the connector's fixed cost; zero until enough was seen.
        var extraSeconds: Double
    }

    var endpoints: [Pod]
    var shared: [Shared]
    var transfers: [Transfer]

    init(_ state: CalibrationState, endpoints summary: RouterSummary) {
        var inUse: [String: PodCalibration] = [:]
        for endpoint in summary.endpoints { inUse[endpoint.name] = endpoint.calibration }
        endpoints = state.pods.sorted { $0.key < $1.key }.map {
            Pod(endpoint: $0.key, calibration: inUse[$0.key], calibrator: $0.value)
        }
        shared = state.shared.sorted { $0.key < $1.key }.map { name, calibrator in
            Shared(
                configuration: name,
                prefill: Self.coefficients(calibrator.prefill, used: calibrator.prefillFactors),
                decode: Self.coefficients(calibrator.decode, used: calibrator.decodeFactors)
            )
        }
        transfers = state.transferCosts.sorted { $0.key < $1.key }.map {
            Transfer(pair: $0.key, samples: $0.value.samples, extraSeconds: $0.value.median)
        }
    }

    private static func coefficients(_ learned: CoefficientCalibrator, used: PredictionTerms?) -> Coefficients {
        Coefficients(
            samples: learned.samples,
            error: learned.error,
            scaleError: learned.scaleError,
            factors: used ?? learned.factors,
            isUsed: used != nil
        )
    }
}
