// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FoundationEssentials

/// The answer of `GET /v1/models`, in OpenAI's form.
enum ModelList {
    /// More than any server has: base models and loaded adapters.
    static let maxModels = 10_000
    static let maxName = 256

    private struct Answer: Decodable {
        struct Model: Decodable {
            var id: String
        }

        var data: [Model]
    }

    /// - Returns: the names in the order of the answer, nil where it is no model list.
    static func parse(_ bytes: [UInt8]) -> [String]? {
        guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(bytes)) else { return nil }
        guard answer.data.count <= maxModels else { return nil }
        return answer.data.map(\.id).filter { !$0.isEmpty && $0.utf8.count <= maxName }
    }
}
