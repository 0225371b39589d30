// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Glibc

/// What the machine has.
enum Processors {
    /// Processors that this process may run on, at least 1.
    static var online: Int { max(Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))), 1) }
}
