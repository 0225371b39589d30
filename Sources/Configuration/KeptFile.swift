// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Glibc

/// A file that is kept over restarts.
package enum KeptFile {
    /// Renames a file that cannot be used, so that it is neither lost nor read again. Gives its new name; nil where even that
    /// failed.
    package static func setAside(_ path: String) -> String? {
        let name = path + ".corrupt"
        return unsafe rename(path, name) == 0 ? name : nil
    }

    /// Writes beside the file and renames, so that a crash leaves the old contents or the new ones, never half of them.
    package static func write(_ bytes: [UInt8], path: String) throws(ConfigurationErrors) {
        func failure(_ what: String) -> ConfigurationErrors {
            let reason = unsafe String(cString: strerror(errno))
            return ConfigurationErrors(ConfigurationError(file: path, message: "\(what): \(reason)"))
        }
        let temporary = "\(path).\(getpid()).tmp"
        let file = unsafe open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw failure("cannot be written") }
        var written = 0
        while written < bytes.count {
            let count = unsafe bytes.withUnsafeBytes { buffer in
                unsafe Glibc.write(file, buffer.baseAddress?.advanced(by: written), bytes.count - written)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let error = failure("cannot be written")
                close(file)
                unsafe unlink(temporary)
                throw error
            }
            written += count
        }
        guard fsync(file) == 0, close(file) == 0, unsafe rename(temporary, path) == 0 else {
            let error = failure("cannot be put in place")
            unsafe unlink(temporary)
            throw error
        }
    }
}
