// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Facts of one kind of accelerator, per accelerator, as its vendor or a measurement states them.
package struct Accelerator: Sendable, Hashable, Codable {
    /// Canonical: lower case with `-`, such as `h100-sxm`.
    package var name: String
    /// Names under which clusters and clouds know it, in any case and with `_`, `-` or blanks.
    package var aliases: [String]
    package var memoryBytes: Double
    /// Bytes per second of device memory.
    package var memoryBandwidth: Double
    /// Dense floating-point operations per second; nil where the accelerator has no such unit.
    package var bfloat16Flops: Double
    package var fp8Flops: Double?
    package var fp4Flops: Double?
    /// Bytes per second one way to its peers in the same machine.
    package var scaleUpBandwidth: Double?
    /// Bytes per second one way of the network line that belongs to one accelerator.
    package var networkBandwidth: Double?
    package var watts: Double?
    /// Dollars per accelerator and hour, unless a fleet says otherwise.
    package var pricePerHour: Double
    /// False where nobody has confirmed the figures: bands are then wider.
    package var isVerified: Bool
    package var source: String

    package init(
        name: String,
        aliases: [String] = [],
        memoryBytes: Double,
        memoryBandwidth: Double,
        bfloat16Flops: Double,
        fp8Flops: Double? = nil,
        fp4Flops: Double? = nil,
        scaleUpBandwidth: Double? = nil,
        networkBandwidth: Double? = nil,
        watts: Double? = nil,
        pricePerHour: Double,
        isVerified: Bool = true,
        source: String = ""
    ) {
        self.name = name
        self.aliases = aliases
        self.memoryBytes = memoryBytes
        self.memoryBandwidth = memoryBandwidth
        self.bfloat16Flops = bfloat16Flops
        self.fp8Flops = fp8Flops
        self.fp4Flops = fp4Flops
        self.scaleUpBandwidth = scaleUpBandwidth
        self.networkBandwidth = networkBandwidth
        self.watts = watts
        self.pricePerHour = pricePerHour
        self.isVerified = isVerified
        self.source = source
    }

    /// Operations per second at a weight dtype. A dtype without a unit of its own runs at the next wider one:
    /// int4 weights are unpacked to bfloat16, fp8 on a part without fp8 as well.
    package func flops(dtype: WeightDtype) -> Double {
        switch dtype {
        case .bfloat16, .int4: bfloat16Flops
        case .fp8: fp8Flops ?? bfloat16Flops
        case .fp4: fp4Flops ?? bfloat16Flops
        }
    }
}
