// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation
import TestSupport

@testable import PrefixIndex

/// Messages that a real vLLM published, and the requests that made it do so.
struct CapturedRun {
    struct Request: Decodable {
        struct Extra: Decodable {
            var cache_salt: String?
        }
        var label: String
        var prompt: [UInt32]?
        var extra: Extra?
    }

    var payloads: [[UInt8]] = []
    var requests: [Request] = []

    init(_ name: String, requests file: String? = nil) throws {
        let folder = fixture("vllm/kv-events/\(name)")
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter {
            $0.hasSuffix("frame2.bin")
        }
        for name in names.sorted() { payloads.append(Array(try Data(contentsOf: folder.appending(path: name)))) }
        let json = try Data(contentsOf: fixture("vllm/kv-events/\(file ?? name)-requests.json"))
        requests = try JSONDecoder().decode([Request].self, from: json)
    }
}

extension PrefixKeys {
    static func tokens(_ tokens: [UInt32], salt: String? = nil, unit: Int = 16, model: String? = nil) -> PrefixKeys {
        var hasher = TokenKeyHasher(model: model, cacheSalt: salt, tokensPerBlock: unit)
        hasher.update(tokens)
        return hasher.finish()
    }
}

extension EventPrefixIndex {
    func tokens(_ keys: PrefixKeys, holder: UInt32 = 1, rank: Int = 0, tier: CacheTier = .gpu) -> Int {
        var result: [TierMatch] = []
        matches(of: keys, into: &result)
        return result.first { $0.holder == holder && $0.rank == rank && $0.tier == tier }?.tokens ?? 0
    }
}
