// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// KEDA's messages (kedacore/keda, pkg/scalers/externalscaler/externalscaler.proto), read and written by field numbers.
final class ExternalScalerMessages {
    /// A trigger has a dozen entries; Kubernetes objects end at 1.5 MiB.
    static let maxBytes = 64 << 10
    static let maxEntries = 128

    private var builder = WireBuilder()

    /// Reads ScaledObjectRef: name 1, namespace 2, scalerMetadata 3.
    static func object(in bytes: UnsafeRawBufferPointer) throws(GRPCStatus) -> ScaledObject {
        guard bytes.count <= maxBytes else { throw GRPCStatus(.resourceExhausted, "the request is too large") }
        var object = ScaledObject(name: "", namespace: "", metadata: [:])
        var reader = unsafe WireReader(bytes)
        while let field = reader.next() {
            guard field.kind == .bytes else { continue }
            switch field.number {
            case 1: object.name = text(field)
            case 2: object.namespace = text(field)
            case 3:
                guard object.metadata.count < maxEntries else { continue }
                let (key, value) = try unsafe entry(field.bytes)
                object.metadata[key] = value
            default: break
            }
        }
        if reader.isMalformed { throw malformed }
        return object
    }

    /// Reads GetMetricsRequest: the object 1, and the name of the metric 2, which is the one that we gave.
    static func metricsRequest(
        in bytes: UnsafeRawBufferPointer
    ) throws(GRPCStatus) -> (object: ScaledObject, metric: String) {
        guard bytes.count <= maxBytes else { throw GRPCStatus(.resourceExhausted, "the request is too large") }
        var object = ScaledObject(name: "", namespace: "", metadata: [:])
        var metric = ""
        var reader = unsafe WireReader(bytes)
        while let field = reader.next() {
            guard field.kind == .bytes else { continue }
            if field.number == 1 { object = try unsafe Self.object(in: field.bytes) }
            if field.number == 2 { metric = text(field) }
        }
        if reader.isMalformed { throw malformed }
        return (object, metric)
    }

    private static let malformed = GRPCStatus(.invalidArgument, "the request is no such message")

    /// One entry of a map: key 1, value 2.
    private static func entry(_ bytes: UnsafeRawBufferPointer) throws(GRPCStatus) -> (key: String, value: String) {
        var result = (key: "", value: "")
        var reader = unsafe WireReader(bytes)
        while let field = reader.next() {
            guard field.kind == .bytes else { continue }
            if field.number == 1 { result.key = text(field) }
            if field.number == 2 { result.value = text(field) }
        }
        if reader.isMalformed { throw malformed }
        return result
    }

    private static func text(_ field: WireField) -> String { unsafe String(decoding: field.bytes, as: UTF8.self) }

    // MARK: Answers

    /// IsActiveResponse: result 1.
    func send(isActive: Bool, on call: any GRPCCall) {
        builder.clear()
        builder.number(1, isActive ? 1 : 0)
        send(on: call)
    }

    /// GetMetricSpecResponse: one MetricSpec 1, with metricName 1, targetSize 2, targetSizeFloat 3.
    func send(metric name: String, target: Double, on call: any GRPCCall) { send(name, target, on: call) }

    /// GetMetricsResponse: one MetricValue 1, with metricName 1, metricValue 2, metricValueFloat 3.
    func send(value: Double, of name: String, on call: any GRPCCall) { send(name, value, on: call) }

    /// The two have the same field numbers. Fields are written last to first.
    private func send(_ name: String, _ value: Double, on call: any GRPCCall) {
        builder.clear()
        builder.message(1) { message in
            if value != 0 {
                message.append((0..<8).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * UInt64($0))) })
                message.append([3 << 3 | 1])
            }
            message.number(2, Self.whole(value))
            message.text(1, name)
        }
        send(on: call)
    }

    private func send(on call: any GRPCCall) {
        unsafe call.send(size: builder.count) { unsafe $0.copyMemory(from: builder.bytes) }
    }

    /// KEDA before 2.9 reads whole numbers only; rounded up, so that a part of a replica is one.
    private static func whole(_ value: Double) -> UInt64 { UInt64(min(max(value.rounded(.up), 0), 1e15)) }
}
