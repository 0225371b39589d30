// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What is asked of the catalogue about one pod, as a fleet file, a cluster or a command line spells it.
package struct ProfileQuery: Sendable, Hashable {
    package var accelerator: String
    package var model: String
    package var tensorParallel: Int
    /// Dtype of the weights. nil or empty = what the model's name says (`…-FP8`), else the model's native one.
    package var dtype: String?
    /// Serving engine (`vllm`, …), whose end-to-end correction applies. nil = the kernels alone.
    package var engine: String?
    /// nil or `auto` = bfloat16.
    package var kvDtype: String?
    /// Dollars per accelerator and hour; nil = the accelerator's listed price.
    package var pricePerHour: Double?
    /// Line rate per accelerator in Gbit/s; nil = the accelerator's usual network.
    package var networkGbps: Double?
    /// KV connector, for the share of the line it reaches.
    package var connector: String?

    package init(
        accelerator: String,
        model: String,
        tensorParallel: Int,
        dtype: String? = nil,
        engine: String? = nil,
        kvDtype: String? = nil,
        pricePerHour: Double? = nil,
        networkGbps: Double? = nil,
        connector: String? = nil
    ) {
        self.accelerator = accelerator
        self.model = model
        self.tensorParallel = tensorParallel
        self.dtype = dtype
        self.engine = engine
        self.kvDtype = kvDtype
        self.pricePerHour = pricePerHour
        self.networkGbps = networkGbps
        self.connector = connector
    }
}

/// The catalogue's answer: a profile, how it was come by, and what the names were understood as.
package struct ProfileResolution: Sendable, Hashable {
    package var profile: PodProfile
    /// Canonical name of the accelerator; the normalised name where nobody knows it.
    package var accelerator: String
    /// Canonical name of the model's shape; the normalised name where nobody knows it.
    package var model: String
    package var tensorParallel: Int
    package var dtype: WeightDtype
    package var kvDtype: KVDtype
    /// The fit that the estimate stands on, such as `h100-sxm/llama-3.1-70b/tp4/fp8`, or why there is none.
    package var origin: String
    package var isKnownAccelerator: Bool
    package var isKnownModel: Bool

    package init(
        profile: PodProfile,
        accelerator: String,
        model: String,
        tensorParallel: Int,
        dtype: WeightDtype,
        kvDtype: KVDtype,
        origin: String,
        isKnownAccelerator: Bool,
        isKnownModel: Bool
    ) {
        self.profile = profile
        self.accelerator = accelerator
        self.model = model
        self.tensorParallel = tensorParallel
        self.dtype = dtype
        self.kvDtype = kvDtype
        self.origin = origin
        self.isKnownAccelerator = isKnownAccelerator
        self.isKnownModel = isKnownModel
    }
}
