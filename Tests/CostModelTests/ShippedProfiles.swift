// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Foundation
import TestSupport

/// The profiles that this repository ships, and tables of shared data.
enum ShippedProfiles {
    static let catalog: Result<ProfileCatalog, ConfigurationErrors> = Result { () throws(ConfigurationErrors) in
        try ProfileLoader.load(folder: fixture("../../profiles").standardizedFileURL.path)
    }

    /// Accelerators, models and what is reached of data sheets, without any fit.
    static func facts() throws -> [ProfileDocument] {
        try ["accelerators", "models", "efficiency"].map { name in
            try ProfileLoader.read(path: fixture("../../profiles/\(name).yaml").standardizedFileURL.path)
        }
    }

    static func table(_ path: String) throws -> CSVTable {
        CSVTable(bytes: try DataFile.bytes(path: SharedData.file("data/\(path)").path))
    }
}
