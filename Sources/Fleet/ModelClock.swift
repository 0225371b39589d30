// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
import Glibc

/// The one clock of a process: monotonic seconds since it was made, times the time scale.
///
/// With scale 10, ten seconds of model time pass in one second of wall time: mock servers run ten times faster than
/// their profiles, and predictions, thresholds and observations are in model time. Network time-outs stay in wall time.
package struct ModelClock: Sendable, Hashable {
    package let scale: Double
    private let originNanoseconds: UInt64

    /// `scale` must be finite and positive; the command line checks it.
    package init(scale: Double = 1) {
        self.scale = scale
        self.originNanoseconds = Self.monotonicNanoseconds()
    }

    /// Now, in model time.
    package var now: Instant {
        Instant(Double(Self.monotonicNanoseconds() &- originNanoseconds) * 1e-9 * scale)
    }

    /// How long a span of model time takes on the wall.
    package func wall(_ span: Seconds) -> Seconds { span / scale }

    /// How much model time passes in a span of wall time.
    package func model(_ wall: Seconds) -> Seconds { wall * scale }

    private static func monotonicNanoseconds() -> UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
