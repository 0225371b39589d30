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
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: Int(chunk))
        var count: Int32 = 0
        repeat {
            count = unsafe gzread(file, &buffer, chunk)
            bytes += buffer[..<Int(max(count, 0))]
        } while count > 0 && bytes.count <= limit
        // Says so too where the last read ended in the middle of packed data.
        let closed = unsafe gzclose(file)
        guard bytes.count <= limit else { throw ValidationError("\(path) is larger than \(limit >> 30) GiB") }
        guard count == 0, closed == Z_OK else { throw ValidationError("\(path) cannot be read to its end") }
        return bytes
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
        } catch WorkloadError.tooLong(let seconds) {
            let days = Int(min(seconds / 86_400, 1e15))
            throw ValidationError("\(text): arrivals span \(days) days; more than 31 are a wrong time or unit")
        } catch WorkloadError.tooManyRequests(let limit) {
            throw ValidationError("\(text): more than \(limit) requests")
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
    /// Reads the fleet file, nil for the standard one.
    static func read(_ path: String?, profiles: String?) throws -> [Endpoint] {
        let catalog = try catalog(profiles)
        let options = FleetFile.Options(needsAddresses: false, takesAnyEngine: true)
        let descriptions: [EndpointDescription]
        do {
            descriptions =
                if let path { try FleetFile.read(path: path, options: options) } else {
                    try FleetFile.read(text: StandardFleet.text, file: StandardFleet.name, options: options)
                }
        } catch {
            throw ValidationError("\(error)")
        }
        let endpoints = try descriptions.enumerated().map { try endpoint($1, id: UInt32($0), catalog) }
        let models = Set(endpoints.map(\.kv.model)).sorted()
        guard models.count <= 1 else {
            let list = models.joined(separator: ", ")
            throw ValidationError("\(path ?? StandardFleet.name): a simulated fleet serves one model, not \(list)")
        }
        return endpoints
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
