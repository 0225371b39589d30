// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Everything that profile files say, indexed, and the fallback ladder that turns a description of a pod into a
/// `PodProfile`. Never fails: what nobody has fitted is estimated, with a wider band.
///
/// Immutable; a reload makes a new one.
package struct ProfileCatalog: Sendable {
    package private(set) var accelerators: [Accelerator] = []
    package private(set) var models: [ModelFacts] = []
    package private(set) var connectors: [Connector] = []
    package private(set) var prices: [ListedPrice] = []
    package private(set) var corrections: [ServingCorrection] = []
    /// Sorted by label and engine.
    package private(set) var fits: [FittedConfiguration] = []

    private var acceleratorNames = NameTable()
    private var modelNames = NameTable()
    private var connectorNames = NameTable()
    private var acceleratorIndex: [String: Int] = [:]
    private var modelIndex: [String: Int] = [:]
    private var connectorIndex: [String: Int] = [:]
    private var efficiencyIndex: [String: Efficiency] = [:]

    /// - Parameter documents: in order; an entry replaces an earlier one of the same name, so a user's file that is
    ///   read last overrides what is shipped.
    package init(documents: [ProfileDocument]) {
        for document in documents {
            for var entry in document.accelerators {
                entry.name = NameTable.key(entry.name)
                for alias in [entry.name] + entry.aliases { acceleratorNames.insert(alias, for: entry.name) }
                ProfileCatalog.put(entry, entry.name, into: &accelerators, &acceleratorIndex)
            }
            for var entry in document.models {
                entry.name = ModelName(entry.name).identity
                for alias in [entry.name] + entry.aliases { modelNames.insert(alias, for: entry.name) }
                ProfileCatalog.put(entry, entry.name, into: &models, &modelIndex)
            }
            for var entry in document.connectors {
                entry.name = NameTable.key(entry.name)
                for alias in [entry.name] + entry.aliases { connectorNames.insert(alias, for: entry.name) }
                ProfileCatalog.put(entry, entry.name, into: &connectors, &connectorIndex)
            }
        }
        for document in documents {
            for var entry in document.prices {
                entry.accelerator = acceleratorName(entry.accelerator)
                prices.append(entry)
            }
            // By canonical names, so that a user's spelling replaces what is shipped all the same.
            for var entry in document.corrections {
                entry.accelerator = acceleratorName(entry.accelerator)
                entry.engine = NameTable.key(entry.engine)
                corrections.removeAll { $0.accelerator == entry.accelerator && $0.engine == entry.engine }
                corrections.append(entry)
            }
            for entry in document.efficiencies { efficiencyIndex[acceleratorName(entry.accelerator)] = entry }
            add(fits: document.fits)
        }
    }

    private static func put<Entry>(
        _ entry: Entry,
        _ name: String,
        into entries: inout [Entry],
        _ index: inout [String: Int]
    ) {
        if let at = index[name] {
            entries[at] = entry
        } else {
            index[name] = entries.count
            entries.append(entry)
        }
    }

    private mutating func add(fits new: [FittedConfiguration]) {
        var byKey: [String: FittedConfiguration] = [:]
        for fit in fits { byKey["\(fit.label) \(fit.engine)"] = fit }
        for var fit in new {
            fit.accelerator = acceleratorName(fit.accelerator)
            fit.model = modelName(fit.model)
            fit.dtype = dtype(fit.dtype, of: fit.model)
            fit.engine = NameTable.key(fit.engine)
            byKey["\(fit.label) \(fit.engine)"] = fit
        }
        fits = byKey.sorted { $0.key < $1.key }.map(\.value)
    }

    /// The catalogue without some of its fits, for judging the ladder.
    package func without(_ isLeftOut: (FittedConfiguration) -> Bool) -> ProfileCatalog {
        var copy = self
        copy.fits.removeAll(where: isLeftOut)
        return copy
    }

    /// The catalogue as if nobody had measured anything on an accelerator.
    package func withoutEfficiency(of accelerator: String) -> ProfileCatalog {
        var copy = self
        copy.efficiencyIndex[accelerator] = nil
        return copy
    }

    // MARK: Names

    /// What a name or an alias is compared by: lower case, with single dashes.
    package static func nameKey(_ name: String) -> String { NameTable.key(name) }

    /// The canonical name; the normalised one where nobody knows it.
    ///
    /// A MIG slice is no whole accelerator: its facts are unknown. One that containers share in time is whole.
    package func acceleratorName(_ name: String) -> String {
        var key = NameTable.key(name)
        if key.contains("-mig-") { return key }
        if key.hasSuffix(ProfileCatalog.sharedSuffix), key.count > ProfileCatalog.sharedSuffix.count {
            key = String(key.dropLast(ProfileCatalog.sharedSuffix.count))
        }
        for vendor in ProfileCatalog.vendorPrefixes where key.hasPrefix(vendor) {
            if let known = acceleratorNames.canonical(key) { return known }
            key = String(key.dropFirst(vendor.count))
            break
        }
        return acceleratorNames.canonical(key) ?? key
    }

    /// What NVIDIA's device plug-in adds to the product where containers take turns.
    private static let sharedSuffix = "-shared"
    /// Vendors, and what Azure writes before its sizes.
    private static let vendorPrefixes = [
        "nvidia-", "amd-instinct-", "amd-", "google-", "intel-", "instinct-", "standard-",
    ]

    /// The canonical name of the model's shape; the normalised one where nobody knows it.
    package func modelName(_ name: String) -> String {
        let identity = ModelName(name).identity
        return modelNames.canonical(identity) ?? identity
    }

    /// The name by which pods must agree before they exchange KV: publisher and dtype do not matter, the weights do.
    package func modelIdentity(_ name: String) -> String { ModelName(name).identity }

    package func accelerator(named name: String) -> Accelerator? {
        acceleratorIndex[acceleratorName(name)].map { accelerators[$0] }
    }

    package func model(named name: String) -> ModelFacts? { modelIndex[modelName(name)].map { models[$0] } }

    /// - Returns: the connector's entry; `Connector.unknown` where nobody has described it.
    package func connector(named name: String?) -> Connector {
        guard let name, let known = connectorNames.canonical(name), let at = connectorIndex[known] else {
            return .unknown
        }
        return connectors[at]
    }

    /// The canonical name, nil where none is given.
    package func connectorName(_ name: String?) -> String? {
        guard let name, !name.isEmpty else { return nil }
        return connectorNames.canonical(name) ?? NameTable.key(name)
    }

    /// True where it is known what the accelerator reaches of its data sheet.
    func isMeasured(_ accelerator: String) -> Bool { efficiencyIndex[accelerator] != nil }

    /// What is known of the accelerator; the default where nobody measured it, with all-reduces at the share of its link's
    /// rate that the measured accelerator with the most similar link reaches.
    func efficiency(of accelerator: Accelerator) -> Efficiency {
        if let measured = efficiencyIndex[accelerator.name] { return measured }
        var result = efficiencyIndex["default"] ?? Efficiency(accelerator: "default")
        let link = accelerator.scaleUpBandwidth ?? ProfileCatalog.leastLink
        var nearest: (ratio: Double, reached: Efficiency)?
        for other in accelerators {
            guard let reached = efficiencyIndex[other.name], let its = other.scaleUpBandwidth, its > 0 else { continue }
            let apart = max(link, its) / min(link, its)
            if nearest.map({ apart < max($0.ratio, 1 / $0.ratio) }) ?? true { nearest = (link / its, reached) }
        }
        guard let nearest, nearest.ratio > 0 else { return result }
        result.allReduceBandwidth = nearest.reached.allReduceBandwidth.multiplied(by: nearest.ratio)
        result.allReduce = nearest.reached.allReduce
        return result
    }

    /// PCIe 4.0 x16, one way: what accelerators of one machine have at least.
    private static let leastLink = 32e9

    private func dtype(_ dtype: WeightDtype, of model: String) -> WeightDtype {
        guard let facts = self.model(named: model), facts.isNativeOnly else { return dtype }
        return facts.nativeDtype
    }

    /// The dtype that a deployment's weights are in: as stated, where that is a known name; else as the model's name
    /// says; else the model's native one.
    package func weightDtype(_ stated: String?, model name: String) -> WeightDtype {
        let said = stated.flatMap(WeightDtype.init(named:)) ?? ModelName(name).dtype
        let native = model(named: name)?.nativeDtype
        return dtype(said ?? native ?? .bfloat16, of: name)
    }

    // MARK: Pairs

    /// Whether KV can move from one pod to the other.
    package func compatibility(prefill: KVLayout, decode: KVLayout) -> KVCompatibility {
        let name = prefill.connector ?? decode.connector
        return KVCompatibility(prefill: prefill, decode: decode, connector: connector(named: name))
    }

    /// The cost of moving KV from one pod to the other, nil where that is impossible.
    package func transfer(
        from sender: PodProfile,
        _ senderKV: KVLayout,
        to receiver: PodProfile,
        _ receiverKV: KVLayout
    ) -> KVTransfer? {
        guard case .compatible(let repacks) = compatibility(prefill: senderKV, decode: receiverKV) else { return nil }
        let connector = connector(named: senderKV.connector ?? receiverKV.connector)
        return KVTransfer(from: sender, to: receiver, repacks: repacks, connector: connector)
    }
}
