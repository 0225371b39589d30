// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One thing that `validate --live` looked at, and what it found.
struct LiveFinding: Encodable, Hashable {
    enum Grade: String, Encodable {
        case ok, warning, error
    }

    /// A pod, an Envoy, an API: what was asked.
    var subject: String
    var grade: Grade
    var text: String

    static func ok(_ subject: String, _ text: String) -> LiveFinding {
        LiveFinding(subject: subject, grade: .ok, text: text)
    }
    static func warning(_ subject: String, _ text: String) -> LiveFinding {
        LiveFinding(subject: subject, grade: .warning, text: text)
    }
    static func error(_ subject: String, _ text: String) -> LiveFinding {
        LiveFinding(subject: subject, grade: .error, text: text)
    }
}
