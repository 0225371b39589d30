// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Autoscaling
import Foundation
import Gateway

/// The external metrics API on one port: pages over HTTP/2, no gRPC.
final class ExternalMetricsService: GRPCService {
    private let namespace: String?
    private let report: @Sendable () -> ScalingReport

    init(namespace: String?, _ report: @escaping @Sendable () -> ScalingReport) {
        self.namespace = namespace
        self.report = report
    }

    func handler(path: String, call: any GRPCCall) -> (any GRPCCallHandler)? { nil }

    func page(path: String) -> HTTPPage? {
        let time = Int64(Date().timeIntervalSince1970 * 1e6)
        return ExternalMetricsAPI(report: report(), namespace: namespace, time: time).page(path: path)
    }
}
