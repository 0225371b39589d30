// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

@Suite("Captured runs of vLLM")
struct CapturedRunTests {
    private static let source = EventSourceID(holder: 1, rank: 0)

    /// What is held at the end, counted from the captures by another program.
    private static let expected: [String: [String: Int]] = [
        "run1": [
            "A_first_96tok_3blocks": 96, "A_again_no_new_blocks": 96, "A_plus_32_child": 96,
            "A_64_shared_then_fork": 64,
            "salted": 0, "salted_again": 0, "short_no_full_block": 0, "decode_fills_blocks": 0, "evict0": 0,
            "evict1": 0,
            "evict2": 128, "evict3": 320, "evict4": 320, "evict5": 320, "A_after_evict": 96, "A_after_reset": 96,
        ],
        "run2-cbor": [
            "A_first_96tok_3blocks": 96, "A_again_no_new_blocks": 96, "A_plus_32_child": 96,
            "A_64_shared_then_fork": 64,
            "salted": 0, "salted_again": 0, "short_no_full_block": 0, "decode_fills_blocks": 0, "evict0": 0,
            "evict1": 0,
            "evict2": 0, "evict3": 0, "evict4": 0, "evict5": 0, "A_after_evict": 96, "A_after_reset": 96,
        ],
    ]

    @Test("what is held at the end", arguments: ["run1", "run2-cbor"], [8, 16, 32])
    func end(name: String, unit: Int) throws {
        let run = try CapturedRun(name)
        let index = try EventPrefixIndex(budget: 8 << 20, unit: unit)
        var total = EventOutcome()
        for payload in run.payloads { total += index.apply(payload, from: Self.source) }
        #expect(!total.isMalformed && !total.hasMoved)
        #expect(total.orphans == 0 && total.foreignBlocks == 0 && total.unusableEvents == 0)
        #expect(total.unknownRemovals == (name == "run1" ? 1 : 0), "one block was stored before the subscription")
        for request in run.requests {
            guard let prompt = request.prompt else { continue }
            let keys = PrefixKeys.tokens(prompt, salt: request.extra?.cache_salt, unit: unit)
            #expect(index.tokens(keys) == Self.expected[name]?[request.label], "\(request.label)")
        }
    }

    /// After every batch, against a table that is fed from the same events by engine hash alone.
    @Test(
        "equal to a table after every batch",
        arguments: ["run1", "run2-cbor", "run3-pd-prefill-bs16", "run3-pd-decode-bs16"]
    )
    func steps(name: String) throws {
        let run = try CapturedRun(name, requests: name.hasPrefix("run3") ? "run1" : nil)
        let index = try EventPrefixIndex(budget: 8 << 20)
        var held: [UInt64: Int] = [:]
        var chains: [UInt64: (tokens: [UInt32], salted: Bool)] = [:]
        let event = KVEvent()
        for payload in run.payloads {
            _ = index.apply(payload, from: Self.source)
            unsafe try payload.withUnsafeBytes { bytes in
                var decoder = try unsafe KVEventDecoder(bytes)
                while try decoder.next(event) {
                    record(event, &held, &chains)
                }
            }
            for hash in held.keys.sorted() {
                guard let chain = chains[hash] else { continue }
                let keys = PrefixKeys.tokens(chain.tokens, salt: chain.salted ? "s1" : nil)
                // All blocks of the chain, from the first to the first that is not held.
                var expected = 0
                let prefixes = chains.filter {
                    $0.value.salted == chain.salted && chain.tokens.starts(with: $0.value.tokens)
                }
                let lengths = Set(prefixes.filter { held[$0.key] != nil }.map(\.value.tokens.count))
                let block = prefixes.map(\.value.tokens.count).min() ?? 1
                while lengths.contains(expected + block) { expected += block }
                #expect(index.tokens(keys) == expected)
            }
        }
        #expect(!chains.isEmpty)
    }

    private func record(
        _ event: KVEvent,
        _ held: inout [UInt64: Int],
        _ chains: inout [UInt64: (tokens: [UInt32], salted: Bool)]
    ) {
        switch event.kind {
        case .stored:
            var before = event.parent.map { chains[$0]?.tokens ?? [] } ?? []
            var salted = event.parent.flatMap { chains[$0]?.salted } ?? false
            if !event.extraKeys.isEmpty { salted = true }
            for index in unsafe 0..<event.hashes.count {
                unsafe before += event.tokens[(index * event.blockSize)..<((index + 1) * event.blockSize)]
                let hash = unsafe event.hashes[index]
                chains[hash] = (before, salted)
                held[hash, default: 0] += 1
            }
        case .removed:
            for hash in unsafe Array(event.hashes) { held[hash] = (held[hash] ?? 1) > 1 ? (held[hash] ?? 1) - 1 : nil }
        case .cleared: held = [:]
        case .other: break
        }
    }

    @Test(
        "the engine's hashes, recomputed from the token ids of its events",
        arguments: ["run1", "run2-cbor", "run3-pd-prefill-bs16"]
    )
    func hashes(name: String) throws {
        let run = try CapturedRun(name, requests: name.hasPrefix("run3") ? "run1" : nil)
        let event = KVEvent()
        var digests: [UInt64: [UInt8]] = [:]
        var right = 0
        var unknownParents = 0
        let algorithm: EngineBlockHash.Algorithm = name == "run2-cbor" ? .sha256CBOR : .sha256
        let seed = ProcessSeed.of(run, algorithm)
        for payload in run.payloads {
            unsafe try payload.withUnsafeBytes { bytes in
                var decoder = try unsafe KVEventDecoder(bytes)
                while try decoder.next(event) {
                    guard event.kind == .stored else { continue }
                    let root = EngineBlockHash.root(algorithm, seed: seed)
                    guard var parent = event.parent.map({ digests[$0] }) ?? root else {
                        unknownParents += 1
                        continue
                    }
                    for index in unsafe 0..<event.hashes.count {
                        let salt = index == 0 && !event.extraKeys.isEmpty ? "s1" : nil
                        let tokens = unsafe Array(event.tokens)[
                            (index * event.blockSize)..<((index + 1) * event.blockSize)
                        ]
                        parent = EngineBlockHash.block(algorithm, parent: parent, tokens: tokens, cacheSalt: salt)
                        let hash = unsafe event.hashes[index]
                        #expect(EngineBlockHash.event(parent) == hash)
                        digests[hash] = parent
                        right += 1
                    }
                }
            }
        }
        #expect(right > 10 && unknownParents == 0)
    }
}

/// The seed under which the captures were made: the default, or PYTHONHASHSEED=0 as in the decode-prefill pair.
private enum ProcessSeed {
    static func of(_ run: CapturedRun, _ algorithm: EngineBlockHash.Algorithm) -> String {
        let event = KVEvent()
        for payload in run.payloads {
            let found: String?? = unsafe try? payload.withUnsafeBytes { bytes in
                var decoder = try unsafe KVEventDecoder(bytes)
                while try decoder.next(event) {
                    guard event.kind == .stored, event.parent == nil, event.extraKeys.isEmpty else { continue }
                    let seeds = [EngineBlockHash.defaultSeed, "0", "42", "1"]
                    return seeds.first {
                        unsafe EngineBlockHash.recognize(
                            hashes: event.hashes,
                            tokens: event.tokens,
                            blockSize: event.blockSize,
                            seed: $0
                        ) == algorithm
                    }
                }
                return nil
            }
            if let found, let found { return found }
        }
        return EngineBlockHash.defaultSeed
    }
}

@Suite("Engine hashes")
struct EngineBlockHashTests {
    private static func hex(_ bytes: [UInt8]) -> String {
        bytes.map { byte in
            let digits = Array("0123456789abcdef")
            return String([digits[Int(byte >> 4)], digits[Int(byte & 15)]])
        }.joined()
    }

    @Test("SHA-256 vectors of FIPS 180-4")
    func digests() {
        #expect(
            Self.hex(SHA256.digest([])) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        )
        #expect(
            Self.hex(SHA256.digest(Array("abc".utf8)))
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        )
        let long = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
        #expect(
            Self.hex(SHA256.digest(Array(long.utf8)))
                == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        )
    }

    @Test("sha256_cbor vectors: tokens 100...131, blocks of 16")
    func cbor() {
        let root = EngineBlockHash.root(.sha256CBOR)
        #expect(Self.hex(root) == "9bd96a485ad84efdafb72ee48a1d7a69bcead0f8f0433173941b276b9581eef0")
        let first = EngineBlockHash.block(.sha256CBOR, parent: root, tokens: (100...115).map { UInt32($0) })
        #expect(Self.hex(first) == "c78a554a1b648c084577886fa29e20b89d606beb26cafd7f90ba7482f31901bc")
        #expect(EngineBlockHash.event(first) == 10_428_775_992_902_877_628)
        let second = EngineBlockHash.block(.sha256CBOR, parent: first, tokens: (116...131).map { UInt32($0) })
        #expect(EngineBlockHash.event(second) == 8_101_442_038_445_348_984)
    }
}
