// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// KEDA's `externalscaler.ExternalScaler`. One per loop, confined to it.
package final class ExternalScalerService: GRPCService {
    /// Open StreamIsActive calls: KEDA keeps one for each ScaledObject.
    package static let maximumStreams = 256

    fileprivate let source: any ExternalScalerSource
    fileprivate let messages = ExternalScalerMessages()
    /// In the order of their coming.
    private var streams: [ScalerCall] = []

    package init(_ source: any ExternalScalerSource) { self.source = source }

    package func handler(path: String, call: any GRPCCall) -> (any GRPCCallHandler)? {
        switch path {
        case "/externalscaler.ExternalScaler/IsActive": ScalerCall(.isActive, call, self)
        case "/externalscaler.ExternalScaler/StreamIsActive": ScalerCall(.streamIsActive, call, self)
        case "/externalscaler.ExternalScaler/GetMetricSpec": ScalerCall(.metricSpecification, call, self)
        case "/externalscaler.ExternalScaler/GetMetrics": ScalerCall(.metrics, call, self)
        default: nil
        }
    }

    /// Tells the open streams what is new to them. To be called about once a second.
    package func refresh() {
        for stream in streams { stream.tellActivity() }
    }

    /// Ends the streams, since this server is about to end: KEDA comes back, and finds another one.
    package func endStreams() {
        for stream in streams { stream.end() }
    }

    fileprivate func add(_ stream: ScalerCall) -> Bool {
        guard streams.count < Self.maximumStreams else { return false }
        streams.append(stream)
        return true
    }

    fileprivate func remove(_ stream: ScalerCall) { streams.removeAll { $0 === stream } }
}

private final class ScalerCall: GRPCCallHandler {
    enum Method { case isActive, streamIsActive, metricSpecification, metrics }

    private let method: Method
    private let call: any GRPCCall
    private unowned let service: ExternalScalerService
    private var isAnswered = false
    /// What a stream is about, and what it was last told.
    private var watched: ScaledObject?
    private var lastTold: Bool?

    init(_ method: Method, _ call: any GRPCCall, _ service: ExternalScalerService) {
        self.method = method
        self.call = call
        self.service = service
    }

    func received(_ message: UnsafeRawBufferPointer) {
        guard !isAnswered else { return call.finish(GRPCStatus(.invalidArgument, "more than one request")) }
        isAnswered = true
        do throws(GRPCStatus) {
            try unsafe answer(message)
        } catch {
            call.finish(error)
        }
    }

    private func answer(_ message: UnsafeRawBufferPointer) throws(GRPCStatus) {
        let messages = service.messages
        switch method {
        case .isActive:
            let object = try unsafe ExternalScalerMessages.object(in: message)
            messages.send(isActive: try service.source.isActive(object), on: call)
        case .metricSpecification:
            let metric = try service.source.metric(of: try unsafe ExternalScalerMessages.object(in: message))
            messages.send(metric: metric.name, target: metric.target, on: call)
        case .metrics:
            let request = try unsafe ExternalScalerMessages.metricsRequest(in: message)
            let name = try service.source.metric(of: request.object).name
            let value = try service.source.value(of: request.object)
            messages.send(value: value, of: request.metric.isEmpty ? name : request.metric, on: call)
        case .streamIsActive:
            let object = try unsafe ExternalScalerMessages.object(in: message)
            // Says at once what is wrong with the trigger.
            _ = try service.source.isActive(object)
            guard service.add(self) else { throw GRPCStatus(.resourceExhausted, "too many streams") }
            watched = object
            return tellActivity()
        }
        call.finish(.ok)
    }

    /// Tells a stream what is new to it.
    func tellActivity() {
        guard let watched, let isActive = try? service.source.isActive(watched), isActive != lastTold else { return }
        lastTold = isActive
        service.messages.send(isActive: isActive, on: call)
    }

    func end() { call.finish(GRPCStatus(.unavailable, "the server is ending")) }

    func remoteEnded() {
        if !isAnswered { call.finish(GRPCStatus(.internal, "no request")) }
    }

    func closed(_ end: GRPCCallEnd) {
        if watched != nil { service.remove(self) }
    }
}
