// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser

/// A value for all pods, or `POD=value` for one.
struct PodOverride<Value: ExpressibleByArgument & Sendable>: ExpressibleByArgument, Sendable {
    /// nil: all pods.
    var pod: String?
    var value: Value

    init?(argument: String) {
        let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard let last = parts.last, let value = Value(argument: String(last)) else { return nil }
        self.value = value
        pod = parts.count == 2 ? String(parts[0]) : nil
    }

    /// The last one that names the pod; else the last one for all.
    static func last(of overrides: [PodOverride], for name: String) -> Value? {
        let own = overrides.last { $0.pod.map { PodName.matches($0, name) } ?? false }
        return (own ?? overrides.last { $0.pod == nil })?.value
    }
}

enum PodName {
    /// A pod is meant by its name, and by the name of the fleet entry that it is one of.
    static func matches(_ wanted: String, _ name: String) -> Bool {
        guard name.hasPrefix(wanted) else { return false }
        let rest = name.dropFirst(wanted.count)
        return rest.isEmpty || (rest.first == "-" && rest.dropFirst().allSatisfy(\.isNumber) && rest.count > 1)
    }
}
