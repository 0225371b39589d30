// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Numbers for label values, of bounded count: the first `limit` values get a number each, all later ones share
/// number 0, which is published as `other`.
struct LabelTable: Sendable {
    static let overflow = "other"

    private let limit: Int
    private var numbers: [String: Int] = [:]
    private(set) var names = [Self.overflow]

    init(limit: Int) { self.limit = limit }

    /// The number of a value; a new value takes a free one.
    mutating func number(for name: String) -> Int {
        if let known = numbers[name] { return known }
        guard names.count <= limit, name != Self.overflow else { return 0 }
        numbers[name] = names.count
        names.append(name)
        return names.count - 1
    }

    /// The number of a value that is known, else that of `other`. For values that clients bring.
    func existing(_ name: String) -> Int { numbers[name] ?? 0 }
}
