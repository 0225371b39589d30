// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel

/// The decode side of a pair; what is not given is as on the prefill side.
struct PairOptions: ParsableArguments {
    @Option(help: "Accelerator of the decode pod. Default: as the prefill pod's.")
    var toAccelerator: String?
    @Option(help: "Model of the decode pod. Default: as the prefill pod's.")
    var toModel: String?
    @Option(help: "Accelerators of the decode pod. Default: as the prefill pod's.")
    var toTp: Int?
    @Option(help: "Number format of the decode pod's weights. Default: as the prefill pod's.")
    var toDtype: String?
    @Option(help: "Number format of the decode pod's KV cache. Default: as the prefill pod's.")
    var toKvDtype: String?
    @Option(help: "Tokens per KV block of the prefill pod. Default: unknown.")
    var blockSize: Int?
    @Option(help: "Tokens per KV block of the decode pod. Default: as the prefill pod's.")
    var toBlockSize: Int?
    @Option(help: "KV connector. Default: unknown.")
    var connector: String?
    @Option(help: "KV connector of the decode pod. Default: as the prefill pod's.")
    var toConnector: String?
    @Option(help: "What each transfer of this pair costs whatever its size, in ms. Default: the connector's.")
    var fixedMs: Double?

    func validate() throws {
        if let toTp, !(1...1024).contains(toTp) { throw ValidationError("--to-tp must be from 1 to 1024") }
        if let toDtype, !WeightDtype.isAccepted(toDtype) {
            throw ValidationError("--to-dtype must be bfloat16, fp8, fp4 or int4, not \(toDtype)")
        }
        if let toKvDtype, KVDtype(named: toKvDtype) == nil {
            throw ValidationError("--to-kv-dtype must be auto, bfloat16 or fp8, not \(toKvDtype)")
        }
        for (name, value) in [("block-size", blockSize), ("to-block-size", toBlockSize)] {
            if let value, !(1...65_536).contains(value) {
                throw ValidationError("--\(name) must be from 1 to 65536")
            }
        }
        if let fixedMs, !(0...60_000).contains(fixedMs) {
            throw ValidationError("--fixed-ms must be from 0 to 60000")
        }
    }

    /// Both pods, the links between them, and what is known of these.
    func resolve(_ pod: PodOptions, _ catalog: ProfileCatalog) -> PodPair {
        var query = pod.query()
        query.connector = connector
        let sending = query
        let sender = pod.resolve(query, catalog)
        query.accelerator = toAccelerator ?? query.accelerator
        query.model = toModel ?? query.model
        query.tensorParallel = toTp ?? query.tensorParallel
        query.dtype = toDtype ?? query.dtype
        query.kvDtype = toKvDtype ?? query.kvDtype
        query.connector = toConnector ?? connector
        // Of what both lack, one warning is enough.
        let receiver = pod.resolve(query, catalog, after: sender)
        for name in Set([connector, toConnector].compactMap(\.self)).sorted()
        where catalog.connector(named: name).name == Connector.unknown.name {
            Console.error("warning: nobody has described connector \(name): 10 ms and 70 % of the line are assumed")
        }
        func layout(_ query: ProfileQuery, block: Int?) -> KVLayout {
            KVLayout(
                model: catalog.modelIdentity(query.model),
                dtype: KVDtype.format(named: query.kvDtype ?? ""),
                blockSize: block,
                connector: catalog.connectorName(query.connector),
                tensorParallel: query.tensorParallel
            )
        }
        return PodPair(
            sender: sender,
            receiver: receiver,
            senderKV: layout(sending, block: blockSize),
            receiverKV: layout(query, block: toBlockSize ?? blockSize),
            connector: catalog.connector(named: connector ?? toConnector),
            fixedCost: fixedMs.map { Seconds(milliseconds: $0) },
            hasVerifiedLinks: pod.networkGbps != nil
                || [sender, receiver].allSatisfy { catalog.accelerator(named: $0.accelerator)?.isVerified ?? false }
        )
    }
}

/// Two pods between which KV may move.
struct PodPair {
    var sender: ProfileResolution
    var receiver: ProfileResolution
    var senderKV: KVLayout
    var receiverKV: KVLayout
    var connector: Connector
    var fixedCost: Seconds?
    /// The rate of the pods' network lines is stated, or confirmed.
    var hasVerifiedLinks: Bool

    /// Relative error of a transfer, half of an 80 % band.
    var transferError: Double {
        let links = hasVerifiedLinks ? 0 : PodPair.unverifiedLinks
        return min((connector.error * connector.error + links * links).squareRoot(), 0.95)
    }

    /// As of all facts that nobody has confirmed.
    private static let unverifiedLinks = 0.3

    /// Where the transfer's figures come from.
    var origin: String {
        connector.source.isEmpty ? "nobody has described the connector" : connector.source
    }

    /// The pair's transfer; refused where the pods cannot exchange KV.
    func transfer(_ catalog: ProfileCatalog) throws -> KVTransfer {
        switch catalog.compatibility(prefill: senderKV, decode: receiverKV) {
        case .incompatible(let reason):
            Console.error("these pods cannot exchange KV: \(reason)")
            throw ExitCode(1)
        case .compatible(let repacks):
            return KVTransfer(
                from: sender.profile,
                to: receiver.profile,
                repacks: repacks,
                connector: connector,
                fixedCost: fixedCost
            )
        }
    }
}
