// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Autoscaling
import Foundation
import Gateway

/// The external metrics API on one port: pages over HTTP/2, no gRPC.
final class ExternalMetricsService: GRPCService {
    private let report: @Sendable () -> ScalingReport

    init(_ report: @escaping @Sendable () -> ScalingReport) { self.report = report }

    func handler(path: String, call: any GRPCCall) -> (any GRPCCallHandler)? { nil }

    func page(path: String) -> HTTPPage? {
        ExternalMetricsAPI(report: report(), time: Int64(Date().timeIntervalSince1970 * 1e6)).page(path: path)
    }
}
