// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FoundationEssentials

/// One name under which a server serves.
package struct ListedModel: Sendable, Hashable, ExpressibleByStringLiteral {
    package var name: String
    /// It is a LoRA adapter: the list names the model that it belongs to.
    package var isAdapter: Bool

    package init(_ name: String, isAdapter: Bool = false) {
        self.name = name
        self.isAdapter = isAdapter
    }

    package init(stringLiteral name: String) { self.init(name) }
}

/// The answer of `GET /v1/models`, in OpenAI's form.
enum ModelList {
    /// More than any server has: base models and loaded adapters.
    static let maxModels = 10_000
    static let maxName = 256

    private struct Answer: Decodable {
        struct Model: Decodable {
            var id: String
            /// vLLM and SGLang: of an adapter, its base model; null of the base itself.
            var parent: String?
        }

        var data: [Model]
    }

    /// - Returns: the names in the order of the answer, nil where it is no model list.
    static func parse(_ bytes: [UInt8]) -> [ListedModel]? {
        guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(bytes)) else { return nil }
        guard answer.data.count <= maxModels else { return nil }
        return answer.data.filter { !$0.id.isEmpty && $0.id.utf8.count <= maxName }.map { model in
            ListedModel(model.id, isAdapter: !(model.parent ?? "").isEmpty && model.parent != model.id)
        }
    }
}
