// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Glibc

/// A moment of wall time that never goes back: nanoseconds of CLOCK_MONOTONIC. Network time-outs are told in it.
package struct MonotonicTime: Sendable, Hashable, Comparable {
    package var nanoseconds: UInt64

    package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    /// Reads the clock.
    package static var current: MonotonicTime {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return MonotonicTime(nanoseconds: UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec))
    }

    /// Saturates: a time-out of any length is a moment.
    package static func + (a: MonotonicTime, d: Duration) -> MonotonicTime {
        let (seconds, attoseconds) = d.components
        guard seconds >= 0, attoseconds >= 0 else { return a }
        let (product, tooLong) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        let (span, tooLongToo) = product.addingReportingOverflow(UInt64(attoseconds) / 1_000_000_000)
        let (sum, tooLate) = a.nanoseconds.addingReportingOverflow(span)
        return MonotonicTime(nanoseconds: tooLong || tooLongToo || tooLate ? .max : sum)
    }

    /// Zero when `b` is later.
    package static func - (a: MonotonicTime, b: MonotonicTime) -> Duration {
        .nanoseconds(Int64(clamping: a.nanoseconds - min(a.nanoseconds, b.nanoseconds)))
    }

    package static func < (a: MonotonicTime, b: MonotonicTime) -> Bool { a.nanoseconds < b.nanoseconds }
}
