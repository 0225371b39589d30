// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CLinux
import Glibc

/// Clocks and sizes of this process.
enum Measurement {
    /// Seconds of a clock that does not go back.
    static var wall: Double { seconds(CLOCK_MONOTONIC) }
    /// Processor seconds of this thread: what a busy machine does not disturb.
    static var processor: Double { seconds(CLOCK_THREAD_CPUTIME_ID) }

    static var nanoseconds: UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Resident bytes, by /proc/self/statm (proc(5)).
    static var resident: Int {
        guard let file = unsafe fopen("/proc/self/statm", "r") else { return 0 }
        defer { unsafe fclose(file) }
        var text = [CChar](repeating: 0, count: 256)
        guard unsafe fgets(&text, Int32(text.count), file) != nil else { return 0 }
        let fields = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            .split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
    }

    private static func seconds(_ clock: clockid_t) -> Double {
        var time = timespec()
        unsafe clock_gettime(clock, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}

/// Quantiles of a list of samples, by the nearest rank.
struct Samples {
    private var values: [UInt64] = []

    init(capacity: Int) { values.reserveCapacity(capacity) }

    mutating func add(_ value: UInt64) { values.append(value) }

    var count: Int { values.count }

    func quantile(_ share: Double) -> UInt64 {
        guard !values.isEmpty else { return 0 }
        let sorted = values.sorted()
        return sorted[min(Int(share * Double(sorted.count)), sorted.count - 1)]
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same workload in every run.
struct WorkloadRandom: RandomNumberGenerator {
    private var state: UInt64

    /// Seeds side by side must not give the same stream shifted by one: the first state is an output.
    init(_ seed: UInt64) {
        state = seed ^ 0x5DEE_CE66_D1CE_4E5B
        state = next()
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
