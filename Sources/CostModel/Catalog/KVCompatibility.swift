// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Why two pods can never exchange KV cache.
package enum KVMismatch: Sendable, Hashable, Codable {
    case model(String, String)
    case dtype(String, String)
    case blockSize(Int, Int)
    case connector(String, String)
    /// The connector moves KV between pods of equal tensor parallelism only.
    case tensorParallel(Int, Int, connector: String)
}

extension KVMismatch: CustomStringConvertible {
    package var description: String {
        switch self {
        case .model(let a, let b): "different models: \(a) and \(b)"
        case .dtype(let a, let b): "different KV dtypes: \(a) and \(b)"
        case .blockSize(let a, let b): "different KV block sizes: \(a) and \(b)"
        case .connector(let a, let b): "different KV connectors: \(a) and \(b)"
        case .tensorParallel(let a, let b, let connector):
            "tensor parallelism \(a) and \(b), and connector \(connector) needs it equal"
        }
    }
}

/// Whether a prefill pod can hand its KV to a decode pod.
package enum KVCompatibility: Sendable, Hashable, Codable {
    /// `repacks`: tensor parallelism differs, so the receiver rearranges what arrives.
    case compatible(repacks: Bool)
    case incompatible(KVMismatch)

    package var isCompatible: Bool {
        if case .compatible = self { true } else { false }
    }

    /// Model, KV dtype, block size (where both are known) and connector (where both are known) must agree.
    package init(prefill: KVLayout, decode: KVLayout, connector: Connector) {
        if prefill.model != decode.model {
            self = .incompatible(.model(prefill.model, decode.model))
        } else if prefill.dtype != decode.dtype {
            self = .incompatible(.dtype(prefill.dtype, decode.dtype))
        } else if let a = prefill.blockSize, let b = decode.blockSize, a != b {
            self = .incompatible(.blockSize(a, b))
        } else if let a = prefill.connector, let b = decode.connector, a != b {
            self = .incompatible(.connector(a, b))
        } else if prefill.tensorParallel != decode.tensorParallel {
            self =
                connector.allowsUnequalTensorParallel
                ? .compatible(repacks: true)
                : .incompatible(
                    .tensorParallel(prefill.tensorParallel, decode.tensorParallel, connector: connector.name)
                )
        } else {
            self = .compatible(repacks: false)
        }
    }
}
