// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Foundation

/// Where data that may not enter the repository is read from: measurements, traces, samples.
///
/// `EPP_PD_SHARED` names the folder that holds `data/` and `samples/`; the default is `../shared` beside the checkout.
package enum SharedData {
    /// The folder, or nil where it is absent.
    package static let folder: URL? = {
        let place = ProcessInfo.processInfo.environment["EPP_PD_SHARED"]
        let url =
            place.map { URL(filePath: $0) }
            ?? URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().appending(path: "shared")
        return FileManager.default.fileExists(atPath: url.appending(path: "data").path) ? url : nil
    }()

    package static var isPresent: Bool { folder != nil }

    /// What a test that needs the folder says when it is skipped.
    package static let absent = "needs shared data: set EPP_PD_SHARED to a folder that holds data/ and samples/"

    /// A file under the folder. Call only where `isPresent`.
    package static func file(_ path: String) -> URL {
        (folder ?? URL(filePath: "/nonexistent")).appending(path: path)
    }
}

/// Files under Tests/Fixtures.
package func fixture(_ path: String) -> URL {
    URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Fixtures").appending(path: path)
}
