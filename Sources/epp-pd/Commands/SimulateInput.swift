// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import CZlib
import Configuration
import CostModel
import Fleet
import Router
import Simulation

/// Reads a file, packed by gzip or plain (zlib's reader takes both).
enum PackedFile {
    /// Unpacked bytes beyond which a file is refused: a hundred times the largest known trace.
    private static let limit = 4 << 30
    private static let chunk: UInt32 = 1 << 20

    static func read(_ path: String) throws -> [UInt8] {
        guard let file = unsafe gzopen(path, "rb") else { throw ValidationError("cannot read \(path)") }
        defer { unsafe gzclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: Int(chunk))
        while true {
            let count = unsafe gzread(file, &buffer, chunk)
            guard count >= 0 else { throw ValidationError("\(path) is not a whole gzip file") }
            if count == 0 { return bytes }
            bytes += buffer[..<Int(count)]
            guard bytes.count <= limit else { throw ValidationError("\(path) is larger than \(limit >> 30) GiB") }
        }
    }
}

/// What `--trace` names.
enum TraceArgument {
    static let defaultRequests = 10_000
    private static let defaultRate = 4.0

    /// Reads the trace. Malformed lines are told on standard error.
    static func read(_ text: String, requests: Int?, seed: UInt64) throws -> Workload {
        if text.hasPrefix("synthetic:") {
            return try synthetic(text.dropFirst("synthetic:".count), requests: requests ?? defaultRequests, seed: seed)
        }
        let bytes = try PackedFile.read(text)
        let first = bytes.first { $0 > 0x20 }
        let reading: TraceReading
        do {
            reading =
                first == UInt8(ascii: "{")
                ? try MooncakeTrace.read(bytes, name: text) : try AzureTrace.read(bytes, name: text)
        } catch WorkloadError.malformed(let lines, let total) {
            throw ValidationError("\(text): \(lines.count) of \(total) lines are malformed: \(list(lines))")
        } catch WorkloadError.empty {
            throw ValidationError("\(text): no requests in it")
        } catch {
            throw ValidationError("\(text): \(error)")
        }
        if !reading.malformedLines.isEmpty {
            let lines = reading.malformedLines
            Console.error("\(text): \(lines.count) malformed lines were left out: \(list(lines))")
        }
        return requests.map { reading.workload.prefix($0) } ?? reading.workload
    }

    private static func list(_ lines: [Int]) -> String {
        let shown = lines.prefix(10).map { "\($0)" }.joined(separator: ", ")
        return "line \(shown)" + (lines.count > 10 ? ", …" : "")
    }

    /// `KIND` or `KIND,rate=N`.
    private static func synthetic(_ text: Substring, requests: Int, seed: UInt64) throws -> Workload {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        guard let kind = parts.first.flatMap({ SyntheticKind(rawValue: String($0)) }) else {
            let kinds = SyntheticKind.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("synthetic traces are \(kinds), not \(parts.first ?? "")")
        }
        var rate = defaultRate
        for part in parts.dropFirst() {
            guard part.hasPrefix("rate="), let value = Double(part.dropFirst(5)), value > 0, value.isFinite else {
                throw ValidationError("after synthetic:\(kind.rawValue) there may be rate=N, not \(part)")
            }
            rate = value
        }
        return SyntheticWorkload.make(kind, count: requests, rate: rate, seed: seed)
    }
}

/// A fleet file as endpoints with profiles.
enum SimulatedFleet {
    static func read(_ path: String, profiles: String?) throws -> [Endpoint] {
        let catalog = try catalog(profiles)
        do {
            let options = FleetFile.Options(needsAddresses: false, takesAnyEngine: true)
            let descriptions = try FleetFile.read(path: path, options: options)
            return try descriptions.enumerated().map { try endpoint($1, id: UInt32($0), catalog) }
        } catch let errors as ConfigurationErrors {
            throw ValidationError("\(errors)")
        }
    }

    static func catalog(_ profiles: String?) throws -> ProfileCatalog {
        guard let folder = ProfileFolder.find(flag: profiles) else {
            throw ValidationError("no folder of profiles: name one with --profiles")
        }
        do {
            return try ProfileLoader.load(folder: folder)
        } catch {
            throw ValidationError("\(error)")
        }
    }

    static func endpoint(
        _ description: EndpointDescription,
        id: UInt32,
        _ catalog: ProfileCatalog
    ) throws -> Endpoint {
        let resolution = catalog.resolve(
            ProfileQuery(
                accelerator: description.accelerator,
                model: description.model,
                tensorParallel: description.tensorParallel,
                dtype: description.dtype,
                engine: description.engine,
                kvDtype: description.kvDtype,
                pricePerHour: description.pricePerHour,
                networkGbps: description.networkGbps
            )
        )
        guard resolution.isKnownAccelerator else {
            throw ValidationError("\(description.name): no profile knows the accelerator \(description.accelerator)")
        }
        guard resolution.isKnownModel else {
            throw ValidationError("\(description.name): no profile knows the model \(description.model)")
        }
        return Endpoint(
            id: EndpointID(id),
            name: description.name,
            address: description.address,
            port: description.port,
            role: description.role,
            pool: description.pool,
            accelerator: resolution.accelerator,
            engine: description.engine,
            servedModels: description.servedModels,
            kv: KVLayout(
                model: catalog.modelIdentity(description.model),
                dtype: KVDtype.format(named: description.kvDtype),
                blockSize: description.blockSize,
                connector: nil,
                tensorParallel: description.tensorParallel
            ),
            profile: resolution.profile,
            canPullKV: description.kvPull ?? true,
            labels: description.labels
        )
    }
}

/// `ttft=1s+0.25ms/token,tpot=50ms`; each part may be left out.
struct ServiceLevelArgument: ExpressibleByArgument, Sendable {
    var rule: ServiceLevelRule
    private var text: String

    /// What results are judged by unless another is given.
    static let standard = ServiceLevelArgument(rule: .standard, text: "ttft=1s+0.25ms/token,tpot=50ms")

    private init(rule: ServiceLevelRule, text: String) {
        self.rule = rule
        self.text = text
    }

    init?(argument: String) {
        text = argument
        rule = ServiceLevelRule()
        for part in argument.split(separator: ",") {
            if part.hasPrefix("ttft=") {
                for term in part.dropFirst(5).split(separator: "+") {
                    let isPerToken = term.hasSuffix("/token")
                    let duration = isPerToken ? term.dropLast("/token".count) : term
                    guard let value = GoDuration.parse(String(duration)), value >= .zero else { return nil }
                    if isPerToken { rule.ttftPerPromptToken = value } else { rule.ttftBase = value }
                }
                if rule.ttftBase == nil { rule.ttftBase = .zero }
            } else if part.hasPrefix("tpot=") {
                guard let value = GoDuration.parse(String(part.dropFirst(5))), value > .zero else { return nil }
                rule.tpot = value
            } else {
                return nil
            }
        }
    }

    var defaultValueDescription: String { text }
}

/// Values with commas between them.
struct ListArgument<Element: LosslessStringConvertible & Sendable>: ExpressibleByArgument, Sendable {
    var values: [Element]

    init(_ values: [Element]) { self.values = values }

    init?(argument: String) {
        values = []
        for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
            guard let value = Element(String(part)) else { return nil }
            values.append(value)
        }
    }

    var defaultValueDescription: String { values.map(\.description).joined(separator: ",") }
}

/// `attainment=0.99` or `dollarsPerThousand=5`.
struct ControlArgument: ExpressibleByArgument, Sendable {
    var target: ControlTarget

    init?(argument: String) {
        let parts = argument.split(separator: "=", omittingEmptySubsequences: false)
        guard parts.count == 2, let value = Double(parts[1]), value > 0, value.isFinite else { return nil }
        switch parts[0] {
        case "attainment" where value < 1: target = .attainment(value)
        case "dollarsPerThousand": target = .dollarsPerRequest(Dollars(value / 1000))
        default: return nil
        }
    }
}
