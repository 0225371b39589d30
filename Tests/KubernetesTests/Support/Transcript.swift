// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation

/// What a real API server answered: status, headers, body.
struct Transcript {
    var status: Int
    var body: [UInt8]

    init(_ name: String) throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let file = folder.appending(path: "Fixtures/Kubernetes/\(name).txt")
        let text = try String(contentsOf: file, encoding: .utf8).replacing("\r\n", with: "\n")
        guard text.hasPrefix("HTTP/"), let end = text.firstRange(of: "\n\n") else {
            status = 200
            body = Array(text.utf8)
            return
        }
        status = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        body = Array(text[end.upperBound...].utf8)
    }
}
