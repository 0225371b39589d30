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
        .setAside(reason: reason, to: KeptFile.setAside(path))
    }

    package static func save(_ state: CalibrationState, path: String) throws(ConfigurationErrors) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let bytes: [UInt8]
        do {
            bytes = Array(try encoder.encode(state))
        } catch {
            throw ConfigurationErrors(ConfigurationError(file: path, message: "cannot be encoded: \(error)"))
        }
        try KeptFile.write(bytes, path: path)
    }
}
