// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What a configuration says of a pool's pods, where they do not say it themselves.
package struct PoolDefaults: Sendable, Hashable {
    package var accelerator: String?
    package var model: String?
    package var servedModels: [String]?
    package var tensorParallel: Int?
    package var dtype: String?
    package var kvDtype: String?
    package var blockSize: Int?
    package var connector: String?
    package var engine: String?
    /// Dollars per accelerator and hour.
    package var pricePerHour: Double?
    /// Gigabits per second and accelerator.
    package var networkGbps: Double?
    /// Its pods can fetch a missing prefix from a peer.
    package var kvPull: Bool?

    package init() {}

    /// Reads a mapping of these keys alone: the annotation `epp-pd.io/profile`.
    package static func read(_ value: DocumentValue) -> PoolDefaults? { value.object { PoolDefaults($0) } }

    /// Reads these keys of a mapping that may have others: a pool's entry in the configuration.
    init(_ object: DocumentObject) {
        accelerator = object.optional("accelerator")?.string(maxLength: 128)
        model = object.optional("model")?.string(maxLength: 256)
        servedModels = object.optional("servedModels")?.list(maxCount: 1000)
            .compactMap { $0.string(maxLength: 256) }
        tensorParallel = object.optional("tensorParallel")?.integer(in: 1...1024)
        dtype = object.optional("dtype")?.string(maxLength: 32)
        kvDtype = object.optional("kvDtype")?.string(maxLength: 32)
        blockSize = object.optional("blockSize")?.integer(in: 1...65_536)
        connector = object.optional("connector")?.string(maxLength: 128)
        engine = object.optional("engine")?.string(maxLength: 64)
        pricePerHour = object.optional("pricePerHour")?.number(in: 0...100_000)
        networkGbps = object.optional("networkGbps")?.number(in: 0.001...1_000_000)
        kvPull = object.optional("kvPull")?.bool()
    }
}
