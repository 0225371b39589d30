// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Testing

@Suite struct KVExchangeTests {
    let catalog = SmallCatalog.catalog
    let layout = KVLayout(
        model: "llama-3.1-70b",
        dtype: "bfloat16",
        blockSize: 16,
        connector: "nixl",
        tensorParallel: 4
    )

    private func check(_ change: (inout KVLayout) -> Void) -> KVCompatibility {
        var other = layout
        change(&other)
        return catalog.compatibility(prefill: layout, decode: other)
    }

    @Test func whatMustAgree() {
        #expect(check { _ in } == .compatible(repacks: false))
        #expect(check { $0.model = "qwen3-32b" } == .incompatible(.model("llama-3.1-70b", "qwen3-32b")))
        #expect(check { $0.dtype = "fp8" } == .incompatible(.dtype("bfloat16", "fp8")))
        #expect(check { $0.blockSize = 64 } == .incompatible(.blockSize(16, 64)))
        #expect(check { $0.blockSize = nil } == .compatible(repacks: false))
        #expect(check { $0.connector = "mooncake" } == .incompatible(.connector("nixl", "mooncake")))
        #expect(check { $0.connector = nil } == .compatible(repacks: false))
        #expect(check { $0.tensorParallel = 8 } == .compatible(repacks: true))
    }

    @Test func aConnectorMayForbidUnequalParallelism() {
        var a = layout
        a.connector = "rigid"
        var b = a
        b.tensorParallel = 2
        #expect(
            catalog.compatibility(prefill: a, decode: b) == .incompatible(.tensorParallel(4, 2, connector: "rigid"))
        )
    }

    /// The simulator's mixed 70B fleet: weights of different dtypes, TP 2, 4 and 8, one KV dtype.
    @Test func allPairsOfTheMixedFleetAreAllowed() {
        let prefill = [4, 4, 2, 2, 8].map { tp in
            KVLayout(model: "llama-3.1-70b", dtype: "bfloat16", blockSize: nil, connector: nil, tensorParallel: tp)
        }
        let decode = [2, 2, 4, 8].map { tp in
            KVLayout(model: "llama-3.1-70b", dtype: "bfloat16", blockSize: nil, connector: nil, tensorParallel: tp)
        }
        let allowed = prefill.flatMap { p in
            decode.filter { catalog.compatibility(prefill: p, decode: $0).isCompatible }
        }
        #expect(allowed.count == 20)
    }

    /// Formula (6) by hand: 8192 tokens of 327,680 bytes over 100 GB/s.
    @Test func transferFollowsTheFormula() {
        let serial = 0.01 + 8192 * 327_680 / 100e9
        let plain = KVTransfer(fixedCost: Seconds(0.01), perToken: 327_680 / 100e9)
        #expect(abs(plain.exposed(tokens: 8192, prefill: Seconds(0.4)).rawValue - serial) < 1e-12)

        let layered = KVTransfer(fixedCost: Seconds(0.01), perToken: 327_680 / 100e9, overlappedLayers: 80)
        let hidden = layered.exposed(tokens: 8192, prefill: Seconds(0.4)).rawValue
        #expect(abs(hidden - (0.01 + serial / 80)) < 1e-12)
        let short = layered.exposed(tokens: 8192, prefill: Seconds(0.001)).rawValue
        #expect(abs(short - (0.01 + serial - 0.001 * 79 / 80)) < 1e-12)
        #expect(plain.exposed(tokens: 0, prefill: Seconds(1)) == .zero)
    }

    /// Layers with a window hold and move the window's tokens, however long the prompt is beyond it.
    @Test func windowsAreMovedOnce() throws {
        let sender = catalog.profile(accelerator: "h100-sxm", model: "gpt-oss-120b", tensorParallel: 1)
        let window = try #require(sender.kvWindow)
        #expect(window.tokens == 128 && window.share == 1)
        let perToken = 18.0 * 2 * 8 * 64 * 2
        #expect(sender.kvBytesPerToken == perToken)
        #expect(sender.kvBytes(tokens: 100) == 2 * 100 * perToken)
        #expect(sender.kvBytes(tokens: 8192) == (8192 + 128) * perToken)
        let transfer = KVTransfer(from: sender, to: sender, repacks: false, connector: catalog.connector(named: "nixl"))
        let expected = 0.01 + (8192 + 128) * perToken / (50e9 * 0.7)
        #expect(abs(transfer.exposed(tokens: 8192, prefill: .zero).rawValue - expected) < 1e-12)
        #expect(abs(transfer.serial(tokens: 8192).rawValue - expected) < 1e-12)
        let dense = catalog.profile(accelerator: "h100-sxm", model: "llama-3.1-70b", tensorParallel: 4)
        #expect(dense.kvWindow == nil && dense.kvBytes(tokens: 10) == 10 * 327_680)

        // Of a model that is mostly windows, far fewer tokens fit.
        var facts = SmallCatalog.qwen32
        let whole = KVCapacity.tokens(
            accelerator: SmallCatalog.h100,
            model: facts,
            tensorParallel: 2,
            dtype: .fp8,
            kvDtype: .bfloat16
        )
        facts.windowedLayers = 54
        facts.window = 1024
        let windowed = KVCapacity.tokens(
            accelerator: SmallCatalog.h100,
            model: facts,
            tensorParallel: 2,
            dtype: .fp8,
            kvDtype: .bfloat16
        )
        #expect(abs(Double(windowed) / Double(whole) - 6.4 / (1 + 5.4 / 4)) < 0.01)
    }

    @Test func theBandOfATransfer() {
        let transfer = KVTransfer(fixedCost: Seconds(0.01), perToken: 1e-5, overlappedLayers: 80)
        let prefill = PhaseEstimate(mean: Seconds(0.05), error: 0.2, source: .fitted)
        let estimate = transfer.estimate(tokens: 8192, prefill: prefill, error: 0.3)
        #expect(estimate.mean == transfer.exposed(tokens: 8192, prefill: prefill.mean))
        #expect(estimate.low < estimate.mean && estimate.mean < estimate.high)
        let sure = PhaseEstimate(mean: Seconds(0.05), error: 0, source: .fitted)
        let exact = transfer.estimate(tokens: 8192, prefill: sure, error: 0)
        #expect(exact.low == exact.mean && exact.high == exact.mean)
    }

    @Test func repackingPassesThroughTheReceiversMemory() throws {
        let sender = catalog.profile(accelerator: "a100-sxm", model: "llama-3.1-70b", tensorParallel: 8)
        let receiver = catalog.profile(accelerator: "h100-sxm", model: "llama-3.1-70b", tensorParallel: 4)
        var other = layout
        other.tensorParallel = 8
        let transfer = try #require(catalog.transfer(from: sender, other, to: receiver, layout))
        #expect(abs(transfer.repackPerToken - 327_680 / (4 * 3.35e12)) < 1e-18)
        #expect(abs(transfer.perToken - 327_680 / (4 * 50e9 * 0.7)) < 1e-18)
        let equal = try #require(catalog.transfer(from: receiver, layout, to: receiver, layout))
        #expect(equal.repackPerToken == 0)
    }
}
