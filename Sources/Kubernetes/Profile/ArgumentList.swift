// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The words of a container's command line, as the program sees them.
struct ArgumentList: Sendable, Hashable {
    /// A command line with more words is no model server's.
    private static let mostWords = 4096

    var words: [String]

    init(_ container: Pod.Container) {
        let variables = Dictionary(
            (container.env ?? []).compactMap { variable in variable.value.map { (variable.name, $0) } },
            uniquingKeysWith: { _, last in last }
        )
        let given = ((container.command ?? []) + (container.args ?? [])).map { Self.expand($0, variables) }
        words = Array(Self.unwrapped(given, variables).prefix(Self.mostWords))
    }

    /// The value of an option, under any of its names: `--name value`, `--name=value`. The last one counts, as argument parsers
    /// have it. `_` in names is the same as `-`.
    func value(_ names: String...) -> String? {
        var found: String?
        for (index, word) in words.enumerated() where word.hasPrefix("-") {
            let name = word.prefix { $0 != "=" }
            guard names.contains(Self.spelled(name)) else { continue }
            if name.endIndex < word.endIndex {
                found = String(word[word.index(after: name.endIndex)...])
            } else if index + 1 < words.count, !words[index + 1].hasPrefix("--") {
                found = words[index + 1]
            }
        }
        return found
    }

    /// Engines take both spellings of a name.
    private static func spelled(_ name: Substring) -> String { String(name.map { $0 == "_" ? "-" : $0 }) }

    /// The values of an option that takes several words.
    func values(_ names: String...) -> [String] {
        for (index, word) in words.enumerated() where word.hasPrefix("-") {
            let name = word.prefix { $0 != "=" }
            guard names.contains(Self.spelled(name)) else { continue }
            if name.endIndex < word.endIndex { return [String(word[word.index(after: name.endIndex)...])] }
            return Array(words[(index + 1)...].prefix { !$0.hasPrefix("-") })
        }
        return []
    }

    /// The word after `word`, where that is no option: `serve MODEL`.
    func word(after word: String) -> String? {
        guard let index = words.firstIndex(where: { $0 == word || $0.hasSuffix("/" + word) }), index + 1 < words.count
        else { return nil }
        let next = words[index + 1]
        return next.hasPrefix("-") ? nil : next
    }

    func contains(_ word: String) -> Bool { words.contains { $0 == word || $0.hasSuffix("/" + word) } }

    // MARK: - Shells and variables

    /// `sh -c 'exec vllm serve …'`: the script's words. Only plain words are understood, which is what such scripts hold.
    private static func unwrapped(_ words: [String], _ variables: [String: String]) -> [String] {
        let shells = ["sh", "bash", "/bin/sh", "/bin/bash", "/usr/bin/bash", "ash", "/bin/ash"]
        guard let first = words.first, shells.contains(first),
            let flag = words.firstIndex(where: { $0.hasPrefix("-") && !$0.hasPrefix("--") && $0.hasSuffix("c") }),
            flag + 1 < words.count
        else { return words }
        return words[(flag + 1)...].flatMap { shellWords($0).map { expandShell($0, variables) } }
    }

    /// Kubernetes' own `$(NAME)`.
    private static func expand(_ text: String, _ variables: [String: String]) -> String {
        replace(text, opening: "$(", closing: ")", variables)
    }

    private static func expandShell(_ word: String, _ variables: [String: String]) -> String {
        let braced = replace(word, opening: "${", closing: "}", variables)
        guard braced.hasPrefix("$"), let value = variables[String(braced.dropFirst())] else { return braced }
        return value
    }

    private static func replace(
        _ text: String,
        opening: String,
        closing: Character,
        _ variables: [String: String]
    ) -> String {
        guard text.contains(opening) else { return text }
        var result = ""
        var rest = text[...]
        while let start = rest.firstRange(of: opening) {
            result += rest[..<start.lowerBound]
            let inside = rest[start.upperBound...]
            guard let end = inside.firstIndex(of: closing), let value = variables[String(inside[..<end])] else {
                // An unknown variable stays as it is written, which Kubernetes does too.
                result += rest[start]
                rest = inside
                continue
            }
            result += value
            rest = inside[inside.index(after: end)...]
        }
        return result + rest
    }

    /// Splits a script in words: quotes, backslashes and line continuations as POSIX shells have them.
    static func shellWords(_ text: String) -> [String] {
        var words: [String] = []
        var word = ""
        var isInWord = false
        var quote: Character?
        var isEscaped = false
        for character in text {
            if isEscaped {
                isEscaped = false
                if character != "\n" {
                    word.append(character)
                    isInWord = true
                }
            } else if character == "\\", quote != "'" {
                isEscaped = true
            } else if let open = quote {
                if character == open { quote = nil } else { word.append(character) }
            } else if character == "'" || character == "\"" {
                quote = character
                isInWord = true
            } else if character.isWhitespace || character == ";" || character == "&" || character == "|" {
                if isInWord { words.append(word) }
                word = ""
                isInWord = false
            } else {
                word.append(character)
                isInWord = true
            }
        }
        if isInWord { words.append(word) }
        return words
    }
}
