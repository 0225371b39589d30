// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation

/// Numbers as people read them. Locale plays no part.
enum Numbers {
    /// `digits` digits behind the point.
    static func fixed(_ value: Double, _ digits: Int) -> String {
        value.isFinite ? String(format: "%.\(digits)f", value) : "\(value)"
    }

    /// Milliseconds with as many digits as matter.
    static func milliseconds(_ seconds: Double) -> String {
        let value = seconds * 1000
        return fixed(value, abs(value) < 10 ? 2 : abs(value) < 100 ? 1 : 0)
    }

    /// Dollars per thousand requests, the unit in which one request's cost is readable.
    static func dollarsPerThousand(_ dollars: Double) -> String { fixed(dollars * 1000, 3) }
}
