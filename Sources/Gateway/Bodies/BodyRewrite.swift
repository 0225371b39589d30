// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What a gathered body gets before it goes on. Every other byte stays as the client sent it.
struct BodyRewrite {
    /// Replaces the value of every top-level `model`.
    var model: String?
    /// Replaces the value of every top-level `priority`, or becomes the body's first member where there is none.
    var priority: Int?
    /// The body was read to have a top-level `priority`.
    var hasPriority = false

    fileprivate struct Edit {
        var range: Range<Int>
        var text: String
    }
}

extension InferenceBodyReader {
    /// Copies the body once, with the changes; where a priority is only to be added, without parsing it again.
    ///
    /// - Returns: nil where nothing changes.
    mutating func rewritten(_ body: borrowing PaddedBytes, _ rewrite: BodyRewrite) -> PaddedBytes? {
        var edits: [BodyRewrite.Edit] = []
        if let model = rewrite.model { replace("model", by: APIError.quoted(model), in: body, &edits) }
        if let priority = rewrite.priority {
            if rewrite.hasPriority {
                replace("priority", by: String(priority), in: body, &edits)
            } else if let brace = unsafe body.bytes.firstIndex(of: UInt8(ascii: "{")) {
                // An inference body names a model, so that another member follows.
                edits.append(BodyRewrite.Edit(range: brace + 1..<brace + 1, text: "\"priority\":\(priority),"))
            }
        }
        edits.sort { $0.range.lowerBound < $1.range.lowerBound }
        return copy(body, with: edits)
    }

    private mutating func replace(
        _ key: String,
        by text: String,
        in body: borrowing PaddedBytes,
        _ edits: inout [BodyRewrite.Edit]
    ) {
        for range in parser.ranges(of: key, in: body) ?? [] { edits.append(BodyRewrite.Edit(range: range, text: text)) }
    }

    private func copy(_ body: borrowing PaddedBytes, with edits: [BodyRewrite.Edit]) -> PaddedBytes? {
        guard !edits.isEmpty else { return nil }
        var result = PaddedBytes()
        result.reserve(body.count + edits.reduce(0) { $0 + $1.text.utf8.count })
        var end = 0
        for edit in edits {
            guard edit.range.lowerBound >= end, edit.range.upperBound <= body.count else { return nil }
            unsafe result.append(UnsafeRawBufferPointer(rebasing: body.bytes[end..<edit.range.lowerBound]))
            var text = edit.text
            text.withUTF8 { unsafe result.append(UnsafeRawBufferPointer($0)) }
            end = edit.range.upperBound
        }
        unsafe result.append(UnsafeRawBufferPointer(rebasing: body.bytes[end...]))
        return result
    }
}
