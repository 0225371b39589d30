// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Foundation
import TestSupport
import Testing

/// The profiles that this repository ships.
let shippedProfiles = fixture("../../profiles").standardizedFileURL.path

@Suite struct ProfileLoaderTests {
    @Test func theShippedProfilesLoad() throws {
        let catalog = try ProfileLoader.load(folder: shippedProfiles)
        let own = catalog.fits.filter { $0.derivedFrom == nil }
        #expect(own.count == 174)
        #expect(catalog.fits.count == 174 + 29)
        #expect(catalog.prices.count == 42)
        #expect(Set(own.map(\.accelerator)).sorted() == ["a100-sxm", "b200-sxm", "h100-sxm", "h200-sxm", "l40s"])
        #expect(catalog.profile(accelerator: "l4", model: "llama-3.1-8b", tensorParallel: 1).source == .derived)
    }

    @Test func namesThatClustersUse() throws {
        let catalog = try ProfileLoader.load(folder: shippedProfiles)
        let names = [
            "NVIDIA-H100-80GB-HBM3": "h100-sxm", "nvidia-h100-80gb": "h100-sxm", "nvidia-h100-mega-80gb": "h100-sxm",
            "NVIDIA-H200": "h200-sxm", "nvidia-h200-141gb": "h200-sxm", "NVIDIA-A100-SXM4-80GB": "a100-sxm",
            "nvidia-a100-80gb": "a100-sxm", "nvidia-tesla-a100": "a100-sxm-40g", "NVIDIA-L40S": "l40s",
            "nvidia-l4": "l4", "nvidia-b200": "b200-sxm", "AMD_Instinct_MI300X_OAM": "mi300x",
            "AMD-Instinct-MI300X-VF": "mi300x", "tpu-v5-lite-podslice": "tpu-v5e", "tpu-v6e-slice": "tpu-v6e",
            "p5.48xlarge": "h100-sxm", "g6e.12xlarge": "l40s", "a3-highgpu-8g": "h100-sxm", "g2-standard-48": "l4",
            "a100_sxm": "a100-sxm", "Standard_ND96isr_H100_v5": "h100-sxm", "v6e-8": "tpu-v6e", "v5p-8": "tpu-v5p",
            "NVIDIA-A100-SXM4-40GB-SHARED": "a100-sxm-40g", "NVIDIA-L4-SHARED": "l4", "NVIDIA-B300-SXM6-AC": "b300-sxm",
            "mi300x-192gb": "mi300x", "Standard_ND96asr_v4": "a100-sxm-40g", "NC48ads_A100_v4": "a100-pcie",
            "NC80adis_H100_v5": "h100-nvl", "Standard_NC80adis_H100_v5": "h100-nvl", "ND96is_H100_v5": "h100-sxm",
            "NV36ads_A10_v5": "a10", "gr6.4xlarge": "l4", "BM.GPU.H100.8": "h100-sxm", "BM.GPU4.8": "a100-sxm-40g",
            "BM.GPU.A100-v2.8": "a100-sxm", "BM.GPU.MI300X.8": "mi300x", "BM.GPU.L40S.4": "l40s", "VM.GPU.A10.2": "a10",
            "BM.GPU.B200.8": "b200-sxm",
        ]
        for (name, canonical) in names { #expect(catalog.acceleratorName(name) == canonical, "\(name)") }
    }

    @Test(arguments: [
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b"), ("meta-llama/Llama-2-70b-chat-hf", "llama-3.1-70b"),
        ("Qwen/Qwen3-235B-A22B-FP8", "qwen3-235b-a22b"), ("llama3.3:70b", "llama-3.1-70b"),
        ("llama3.1:8b", "llama-3.1-8b"),
        ("gpt-oss:20b", "gpt-oss-20b"), ("deepseek-r1:671b", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-v3"), ("deepseek-ai/DeepSeek-R1-0528", "deepseek-v3"),
        ("nvidia/DeepSeek-R1-0528-NVFP4", "deepseek-v3"), ("deepseek-ai/DeepSeek-V3.1", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "qwen3-8b"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "llama-3.1-8b"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "llama-3.1-70b"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "qwen2.5-32b"),
        // No entry has its shape: it must not be taken for its teacher.
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "deepseek-r1-distill-qwen-1.5b"),
        ("mistralai/Ministral-8B-Instruct-2410", "ministral-8b"), ("moonshotai/Kimi-K2-Instruct-0905", "kimi-k2"),
        ("moonshotai/Kimi-K2-Thinking", "kimi-k2-thinking"), ("moonshotai/Kimi-K2.5", "kimi-k2-thinking"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("codellama/CodeLlama-34b-Instruct-hf", "codellama-34b"), ("nvidia/Llama-3.1-8B-Instruct-FP8", "llama-3.1-8b"),
    ])
    func namesOfModels(name: String, canonical: String) throws {
        #expect(try ProfileLoader.load(folder: shippedProfiles).modelName(name) == canonical)
    }

    @Test func kimiThinkingShipsInInt4() throws {
        let catalog = try ProfileLoader.load(folder: shippedProfiles)
        #expect(catalog.weightDtype(nil, model: "moonshotai/Kimi-K2.5") == .int4)
        #expect(catalog.weightDtype("", model: "moonshotai/Kimi-K2-Instruct") == .fp8)
    }

    static let fit = """
        fits:
          - accelerator: x
            engine: vllm
            provenance: test
            configurations:
              - {model: m, tp: 1, dtype: fp8,
                 prefill: {knee: 1, c0: 1, c1lo: 1, c1hi: 1, c2: 1, c3: 1, error: 0.1},
                 decode: {knee: 1, d0: 1, d1lo: 1, d1hi: 1, d2: 1, error: 0.1},
                 step: {knee: 1, c0: 1, c1lo: 1, c1hi: 1, c2: 1, d1: 1, d2: 1, error: 0.1}}
        """

    @Test(arguments: [
        ("c0: 1, c1lo", "c0: -1, c1lo", 7, "fits[0].configurations[0].prefill.c0"),
        ("d0: 1", "d0: .nan", 8, "fits[0].configurations[0].decode.d0"),
        ("d1: 1", "d1: .inf", 9, "fits[0].configurations[0].step.d1"),
        ("d2: 1, error: 0.1},\n", "d2: 1e99, error: 0.1},\n", 8, "fits[0].configurations[0].decode.d2"),
        ("tp: 1", "tp: 0", 6, "fits[0].configurations[0].tp"),
        ("dtype: fp8", "dtype: fp7", 6, "fits[0].configurations[0].dtype"),
        ("provenance: test", "comment: test", 2, "fits[0].provenance"),
        ("provenance: test", "provenance: test\n    typo: 1", 5, "fits[0].typo"),
    ])
    func refusesWithLineAndPath(old: String, new: String, line: Int, keyPath: String) throws {
        let text = Self.fit.replacingOccurrences(of: old, with: new)
        #expect(text != Self.fit)
        let error = try #require(throws: ConfigurationErrors.self) {
            try ProfileLoader.read(text: text, file: "f.yaml")
        }
        #expect(error.errors.contains { $0.line == line && $0.keyPath == keyPath }, "\(error)")
    }

    @Test func aUsersFileReplacesAnEntry() throws {
        let shipped = try ProfileLoader.read(text: Self.fit, file: "a.yaml")
        let text = Self.fit.replacingOccurrences(of: "d0: 1,", with: "d0: 7,")
        let user = try ProfileLoader.read(text: text, file: "b.yaml")
        let catalog = ProfileCatalog(documents: [shipped, user])
        #expect(catalog.fits.map(\.decode.base) == [0.007])
    }

    /// The file's name sorts before `accelerators.yaml` and before `fits/`: it is read last all the same.
    @Test(arguments: ["aaa.yaml", "a100-sxm-m-tp1-fp8.yaml", "Z/deep.yml", "zzz.json"])
    func aUsersFileHasTheLastWordWhateverItsName(name: String) throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "profiles-\(UUID())")
        defer { try? FileManager.default.removeItem(at: folder) }
        func write(_ text: String, _ path: String) throws {
            let file = folder.appending(path: path)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(),
                withIntermediateDirectories: true
            )
            try Data(text.utf8).write(to: file)
        }
        func accelerator(price: Int) -> String {
            "{name: x, memoryGB: 80, memoryGBps: 2000, bf16: 300, usdPerHour: \(price)}"
        }
        try write("accelerators: [\(accelerator(price: 1))]", "accelerators.yaml")
        try write(Self.fit, "fits/x.yaml")
        let own = Self.fit.replacingOccurrences(of: "d0: 1,", with: "d0: 7,")
        if name.hasSuffix("json") {
            try write("{\"accelerators\": [\(accelerator(price: 9))]}", name)
        } else {
            try write("accelerators: [\(accelerator(price: 9))]\n" + own, name)
            let catalog = try ProfileLoader.load(folder: folder.path)
            #expect(catalog.fits.map(\.decode.base) == [0.007])
        }
        #expect(try ProfileLoader.load(folder: folder.path).accelerator(named: "x")?.pricePerHour == 9)
    }

    @Test func whereProfilesAreLookedFor() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "profiles-\(UUID())")
        defer { try? FileManager.default.removeItem(at: folder) }
        let profiles = folder.appending(path: "profiles")
        try FileManager.default.createDirectory(at: profiles, withIntermediateDirectories: true)
        try Data().write(to: profiles.appending(path: "accelerators.yaml"))
        let executable = folder.path + "/.build/x86_64/release/epp-pd"
        #expect(ProfileFolder.find(flag: nil, environment: nil, executable: executable) == profiles.path)
        #expect(ProfileFolder.find(flag: nil, environment: "/e", executable: executable) == "/e")
        #expect(ProfileFolder.find(flag: "/f", environment: "/e", executable: executable) == "/f")
        #expect(throws: ConfigurationErrors.self) { try ProfileLoader.load(folder: folder.path + "/none") }
    }
}
