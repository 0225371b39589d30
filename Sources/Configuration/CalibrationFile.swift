// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
import FoundationEssentials
import Glibc

/// Keeps what was learned over a restart.
package enum CalibrationFile {
    /// A pod's state is about 5 KB as JSON: this is room for thousands.
    static let limit = 64 << 20

    package enum Loaded: Sendable {
        case state(CalibrationState)
        /// There is no file yet.
        case absent
        /// The file could not be used and was set aside under the name given, nil where even that failed.
        case setAside(reason: String, to: String?)
    }

    package static func load(path: String) -> Loaded {
        guard unsafe access(path, F_OK) == 0 else { return .absent }
        do {
            let text = try FileContents.text(path: path, limit: limit)
            let state = try JSONDecoder().decode(CalibrationState.self, from: Data(text.utf8))
            guard state.version == CalibrationState.currentVersion else {
                return setAside(path, "is of version \(state.version), not \(CalibrationState.currentVersion)")
            }
            return .state(state)
        } catch let failure as FileContents.Failure {
            return setAside(path, failure.description)
        } catch {
            return setAside(path, "is not a calibration state: \(error)")
        }
    }

    private static func setAside(_ path: String, _ reason: String) -> Loaded {
        let name = path + ".corrupt"
        return .setAside(reason: reason, to: unsafe rename(path, name) == 0 ? name : nil)
    }

    /// Writes beside the file and renames, so that a crash leaves the old state or the new one, never half of it.
    package static func save(_ state: CalibrationState, path: String) throws(ConfigurationErrors) {
        func failure(_ what: String) -> ConfigurationErrors {
            let reason = unsafe String(cString: strerror(errno))
            return ConfigurationErrors(ConfigurationError(file: path, message: "\(what): \(reason)"))
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let bytes: [UInt8]
        do {
            bytes = Array(try encoder.encode(state))
        } catch {
            throw ConfigurationErrors(ConfigurationError(file: path, message: "cannot be encoded: \(error)"))
        }
        let temporary = "\(path).\(getpid()).tmp"
        let file = unsafe open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw failure("cannot be written") }
        var written = 0
        while written < bytes.count {
            let count = unsafe bytes.withUnsafeBytes { buffer in
                unsafe write(file, buffer.baseAddress?.advanced(by: written), bytes.count - written)
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
