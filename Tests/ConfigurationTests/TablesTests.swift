// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Foundation
import TestSupport
import Testing

@Suite struct TablesTests {
    private func table(_ text: String) -> CSVTable { CSVTable(bytes: Array(text.utf8)) }

    @Test func quotesLineEndsAndShortRows() {
        let t = table("a,b,c\r\n1,\"x, \"\"y\"\"\nz\",3\n\n4,5\n6,7,8,9")
        #expect(t.header == ["a", "b", "c"])
        #expect(t.count == 3)
        #expect(t.text(0, "b") == "x, \"y\"\nz")
        #expect(t.isWhole(0) && !t.isWhole(1) && !t.isWhole(2))
        #expect(t.text(1, "c") == "" && t.number(1, "b") == 5)
        #expect(t.line(of: 1) == 5)
        #expect(t.number(0, "nope") == nil)
        #expect(String(decoding: t.raw(0), as: UTF8.self) == "1,\"x, \"\"y\"\"\nz\",3")
    }

    @Test(arguments: ["", "\n", "\"", "a\n\"", "a,b\n,", "\u{FEFF}a\n1"])
    func oddFilesDoNoHarm(text: String) {
        let t = table(text)
        for row in 0..<t.count { _ = (t.text(row, 0), t.raw(row), t.number(row, 1)) }
    }

    @Test func numbersAreFinite() {
        let t = table("a\nnan\ninf\n1e999\n0x10\n-3.5\n")
        #expect((0..<t.count).map { t.number($0, "a") }.compactMap { $0 } == [16, -3.5])
    }

    @Test func gzipIsToldByItsBytes() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "data-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        // "hello\n" twice, as two members, by gzip(1).
        let member: [UInt8] = [
            0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 0xCB, 0x48, 0xCD, 0xC9, 0xC9, 0xE7, 2, 0, 0x20, 0x30, 0x3A, 0x36, 6, 0,
            0,
            0,
        ]
        let path = folder.appending(path: "x").path
        func read(_ bytes: [UInt8], limit: Int = 1 << 20) throws -> String {
            try Data(bytes).write(to: URL(filePath: path))
            return String(decoding: try DataFile.bytes(path: path, limit: limit), as: UTF8.self)
        }
        #expect(try read(member + member) == "hello\nhello\n")
        #expect(try read(Array("plain".utf8)) == "plain")
        #expect(throws: DataFile.Failure.corrupt) { try read(Array(member.dropLast(9))) }
        #expect(throws: DataFile.Failure.corrupt) { try read(Array(member.prefix(10))) }
        #expect(throws: DataFile.Failure.tooLarge(limit: 11)) { try read(member + member, limit: 11) }
        #expect(throws: DataFile.Failure.self) { try DataFile.bytes(path: path + "-none") }
    }

    @Test func everyRowThatCanBeParsedIsPredicted() throws {
        let catalog = try ProfileLoader.load(folder: shippedProfiles)
        let text = """
            note,kind,accelerator,model,tp,dtype,new_tokens,cached_tokens,batch,kv_tokens,isl,osl,concurrency,batch_size
            "a, b",prefill,h100_sxm,llama-3.1-70b,4,fp8,8192,,,,,,,
            ,Decode,NVIDIA-H200,Qwen/Qwen3-32B,1.0,,,,32,100000,,,,
            ,step,mystery,who-knows,1,,512,0,4,4000,,,,
            ,tpot,b200-sxm,gpt-oss-120b,1,mxfp4,,,,,1024,1024,,8.0
            ,dance,h100,llama-3.1-8b,1,,1,,,,,,,
            ,prefill,h100,llama-3.1-8b,1,,-5,,,,,,,
            ,prefill,h100,llama-3.1-8b,0,,5,,,,,,,
            ,prefill,h100
            """
        var predictions = PredictionTable(catalog: catalog, table: table(text))
        var lines: [String] = []
        predictions.predict { lines.append(String(decoding: $0, as: UTF8.self)) }
        #expect(lines.count == 9)
        #expect(lines[0].hasSuffix(",batch_size,predicted_ms,error_low_ms,error_high_ms,source"))
        #expect(lines[1].hasPrefix("\"a, b\",prefill,") && lines[1].contains("fitted h100-sxm/llama-3.1-70b/tp4/fp8"))
        let answer = table(lines.joined(separator: "\n"))
        for row in 0..<4 {
            let predicted = try #require(answer.number(row, "predicted_ms"))
            #expect(predicted > 0)
            #expect(try #require(answer.number(row, "error_low_ms")) < predicted)
            #expect(try #require(answer.number(row, "error_high_ms")) > predicted)
        }
        for line in lines[5...] { #expect(line.hasSuffix(",,,,")) }
        #expect(predictions.unparsable.map(\.line) == [6, 7, 8, 9])
        #expect(predictions.unparsableCount == 4)
        #expect(predictions.sources[.unknown] == 1)
    }

    /// What is absent counts as nothing, blanks do not count, and what is absurd is predicted all the same.
    @Test func everyKindOfRowIsPredicted() throws {
        let catalog = try ProfileLoader.load(folder: shippedProfiles)
        let text = """
            kind,accelerator,model,tp,dtype,new_tokens,batch,kv_tokens
            decode,h100,llama-3.1-8b,1,,,4,
            decode,h100,llama-3.1-8b,1,,,4,0
            prefill,h100,llama-3.1-8b,,,,,
            decode,h100,llama-3.1-8b,,,,,
            tpot,h100,llama-3.1-8b,,,,,
            decode,h100,llama-3.1-8b,1,,,1,2e9
            prefill,h100,llama-3.1-8b,4096,,1e300,,
            decode,h100, llama-3.1-8b ,"1 ", FP8 ,, 4 ,"0 "
            """
        var predictions = PredictionTable(catalog: catalog, table: table(text))
        var lines: [String] = []
        predictions.predict { lines.append(String(decoding: $0, as: UTF8.self)) }
        #expect(predictions.unparsableCount == 0, "\(predictions.unparsable)")
        let answer = table(lines.joined(separator: "\n"))
        let milliseconds = (0..<answer.count).map { answer.number($0, "predicted_ms") ?? .nan }
        #expect(milliseconds.allSatisfy { $0 > 0 && $0.isFinite }, "\(milliseconds)")
        #expect(milliseconds[0] == milliseconds[1])
        #expect(milliseconds[5] > 10_000)
        #expect(answer.text(7, "source") == "fitted h100-sxm/llama-3.1-8b/tp1/fp8")
    }

    @Test func whatWasLearnedSurvivesARestart() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "calibration-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appending(path: "state.json").path
        guard case .absent = CalibrationFile.load(path: path) else {
            Issue.record("there is no file yet")
            return
        }
        var pod = PodCalibrator()
        for i in 0..<50 {
            pod.observePrefill(predicted: Seconds(1), observed: Seconds(1.4), newTokens: 99, at: Instant(Double(i)))
        }
        var transfer = OffsetMedian()
        for _ in 0..<30 { transfer.observe(0.02) }
        let state = CalibrationState(
            pods: ["p": pod],
            shared: ["h100-sxm/llama-3.1-70b/tp4/fp8/vllm": ConfigurationCalibrator()],
            transferCosts: ["p>d": transfer]
        )
        try CalibrationFile.save(state, path: path)
        guard case .state(let loaded) = CalibrationFile.load(path: path) else {
            Issue.record("what was saved cannot be loaded")
            return
        }
        // All but the recent outliers, whose times are of this process.
        #expect(loaded.pods["p"]?.calibration == pod.calibration)
        #expect(loaded.shared == state.shared && loaded.transferCosts == state.transferCosts)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["state.json"])

        for broken in ["", "{", "[]", "{\"version\": 99, \"pods\": {}, \"shared\": {}, \"transferCosts\": {}}"] {
            try Data(broken.utf8).write(to: URL(filePath: path))
            guard case .setAside(_, let name) = CalibrationFile.load(path: path) else {
                Issue.record("a corrupt file was used: \(broken)")
                return
            }
            #expect(name == path + ".corrupt")
            #expect(!FileManager.default.fileExists(atPath: path))
        }
        #expect(throws: ConfigurationErrors.self) { try CalibrationFile.save(state, path: folder.path + "/no/such") }
    }
}
