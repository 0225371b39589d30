// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// What is wrong between entries of profile files: names that nobody has described, and names of two entries.
///
/// The loader lets these pass, since a fit of something undescribed can be used; people want to hear of them.
package enum ProfileChecks {
    /// Reads the folder's files again, each error at its line. `catalog` is what they were loaded as.
    package static func errors(in folder: String, _ catalog: ProfileCatalog) -> [ConfigurationError] {
        let files: [String]
        do {
            files = try ProfileFolder.files(in: folder)
        } catch {
            return error.errors
        }
        var errors: [ConfigurationError] = []
        // What is shipped and what is the user's apart: a user's entry may take a shipped one's alias.
        var owners: [String: String] = [:]
        var wasShipped = true
        for file in files {
            let isShipped = ProfileFolder.isShipped(file, in: folder)
            if isShipped != wasShipped { owners = [:] }
            wasShipped = isShipped
            do {
                _ = try Document.read(path: file) { root in
                    accelerators(root, catalog)
                    aliases(root, &owners)
                    return true
                }
            } catch {
                errors += error.errors
            }
        }
        return errors
    }

    private static func entries(_ root: DocumentValue, _ section: String) -> [[String: DocumentValue]] {
        guard root.isObject, let list = root.entries().first(where: { $0.key == section })?.value, list.isList else {
            return []
        }
        return list.list().filter(\.isObject).map { element in
            Dictionary(element.entries().map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
        }
    }

    private static func accelerators(_ root: DocumentValue, _ catalog: ProfileCatalog) {
        // `default` stands for what nobody measured, `*` for any.
        for (section, words) in [
            ("fits", []), ("prices", []), ("corrections", ["*"]), ("efficiencies", ["default"]),
        ] as [(String, [String])] {
            for entry in entries(root, section) {
                guard let value = entry["accelerator"], let name = value.string(), !words.contains(name),
                    catalog.accelerator(named: name) == nil
                else { continue }
                value.reject("no entry under accelerators describes \(name)")
            }
        }
    }

    private static func aliases(_ root: DocumentValue, _ owners: inout [String: String]) {
        for section in ["accelerators", "models", "connectors"] {
            for entry in entries(root, section) {
                guard let name = entry["name"]?.string() else { continue }
                let own = ProfileCatalog.nameKey(name)
                let others = entry["aliases"].map { $0.isList ? $0.list(maxCount: 1000) : [] } ?? []
                for value in [entry["name"]].compactMap(\.self) + others {
                    guard let alias = value.string() else { continue }
                    let key = "\(section) \(ProfileCatalog.nameKey(alias))"
                    if let owner = owners[key], owner != own {
                        value.reject("\(alias) is a name of \(owner) as well")
                    } else {
                        owners[key] = own
                    }
                }
            }
        }
    }
}
