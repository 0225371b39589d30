// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation
import Glibc

/// What this process has used so far.
enum ProcessUsage {
    /// User and system time of all threads.
    static var processorSeconds: Double {
        var usage = rusage()
        unsafe getrusage(RUSAGE_SELF.rawValue, &usage)
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) * 1e-6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }

    /// Resident set, by /proc/self/statm (proc(5)); 0 where it cannot be read.
    static var residentBytes: Int {
        guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else { return 0 }
        let fields = text.split(separator: " ")
        guard fields.count > 1, let pages = Int(fields[1]) else { return 0 }
        return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }
}
