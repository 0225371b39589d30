// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Glibc

/// Where profile files lie.
package enum ProfileFolder {
    /// The environment variable that names the folder.
    package static let environmentVariable = "EPP_PD_PROFILES"
    /// More files than this is some other folder.
    static let mostFiles = 2000
    /// Folders within each other.
    static let greatestDepth = 4
    /// Steps up from the executable: `.build/x86_64-unknown-linux-gnu/release/epp-pd` is four below the package.
    private static let stepsUp = 6

    /// The first that exists of: the one named by `--profiles`, the one in the environment, `profiles` beside the
    /// executable or above it (a build folder lies within its package), `./profiles`, `/usr/share/epp-pd/profiles`.
    /// One that is named explicitly is returned whether it exists or not: a wrong name is to be reported.
    ///
    /// - Parameters:
    ///   - flag: value of `--profiles`.
    ///   - environment: value of `EPP_PD_PROFILES`.
    ///   - executable: absolute path of the running program, as `/proc/self/exe` says.
    /// - Returns: nil where there is none.
    package static func find(flag: String?, environment: String?, executable: String?) -> String? {
        if let flag, !flag.isEmpty { return flag }
        if let environment, !environment.isEmpty { return environment }
        var candidates: [String] = []
        var parts = executable?.split(separator: "/").map(String.init) ?? []
        for _ in 0..<stepsUp where !parts.isEmpty {
            parts.removeLast()
            candidates.append("/" + (parts + ["profiles"]).joined(separator: "/"))
        }
        candidates += ["profiles", "/usr/share/epp-pd/profiles"]
        // A folder of that name that holds no catalogue is somebody else's.
        return candidates.first { isFile("\($0)/accelerators.yaml") }
    }

    /// As above, for the running process.
    package static func find(flag: String? = nil) -> String? {
        let environment = unsafe getenv(environmentVariable).map { unsafe String(cString: $0) }
        return find(flag: flag, environment: environment, executable: runningExecutable())
    }

    /// Files that are shipped, and the folder whose files are. All others are a user's.
    private static let shippedFiles = [
        "accelerators.yaml", "models.yaml", "connectors.yaml", "prices.yaml", "efficiency.yaml", "corrections.yaml",
    ]
    private static let shippedFolder = "fits/"

    /// Whether a file is one of those that are shipped, by its path within the folder.
    static func isShipped(_ path: String, in folder: String) -> Bool {
        guard path.hasPrefix(folder + "/") else { return false }
        let name = path.dropFirst(folder.count + 1)
        return name.hasPrefix(shippedFolder) || shippedFiles.contains(String(name))
    }

    /// Every `.yaml`, `.yml` and `.json` file in the order in which they are read: what is shipped, then all others, so
    /// that a user's file has the last word whatever it is called. Each part is sorted by path.
    static func files(in folder: String) throws(ConfigurationErrors) -> [String] {
        var found: [String] = []
        try collect(folder, depth: 0, into: &found)
        guard !found.isEmpty else {
            throw ConfigurationErrors(
                ConfigurationError(file: folder, message: "holds no profile: no file ends in .yaml, .yml or .json")
            )
        }
        found.sort()
        return found.filter { isShipped($0, in: folder) } + found.filter { !isShipped($0, in: folder) }
    }

    private static func collect(_ folder: String, depth: Int, into found: inout [String]) throws(ConfigurationErrors) {
        guard let stream = unsafe opendir(folder) else {
            let reason = unsafe String(cString: strerror(errno))
            throw ConfigurationErrors(ConfigurationError(file: folder, message: "cannot be read: \(reason)"))
        }
        defer { unsafe closedir(stream) }
        while let entry = unsafe readdir(stream) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe String(cString: UnsafeRawPointer(pointer).assumingMemoryBound(to: CChar.self))
            }
            guard !name.hasPrefix(".") else { continue }
            let path = "\(folder)/\(name)"
            if isFolder(path) {
                if depth < greatestDepth { try collect(path, depth: depth + 1, into: &found) }
            } else if name.hasSuffix(".yaml") || name.hasSuffix(".yml") || name.hasSuffix(".json") {
                found.append(path)
            }
            guard found.count <= mostFiles else {
                throw ConfigurationErrors(
                    ConfigurationError(file: folder, message: "holds more than \(mostFiles) files")
                )
            }
        }
    }

    private static func mode(_ path: String) -> mode_t? {
        var status = stat()
        return unsafe stat(path, &status) == 0 ? status.st_mode & S_IFMT : nil
    }

    private static func isFolder(_ path: String) -> Bool { mode(path) == S_IFDIR }
    private static func isFile(_ path: String) -> Bool { mode(path) == S_IFREG }

    private static func runningExecutable() -> String? {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        let count = unsafe readlink("/proc/self/exe", &buffer, Int(PATH_MAX))
        guard count > 0 else { return nil }
        return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
