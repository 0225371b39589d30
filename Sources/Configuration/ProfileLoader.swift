// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Reads profile files. Every field is checked against its range; errors name file, line and key path.
package enum ProfileLoader {
    /// Every `.yaml`, `.yml` and `.json` file under a folder: first those that are shipped, then the user's, each sorted
    /// by path, so that what a file replaces depends neither on the file system nor on its name. Files in folders below
    /// count; names that begin with a dot do not.
    package static func load(folder: String) throws(ConfigurationErrors) -> ProfileCatalog {
        try load(folders: [folder])
    }

    /// Folders in order: an entry of a later one replaces an earlier one of the same name.
    package static func load(folders: [String]) throws(ConfigurationErrors) -> ProfileCatalog {
        var documents: [ProfileDocument] = []
        var errors: [ConfigurationError] = []
        for folder in folders {
            let files: [String]
            do {
                files = try ProfileFolder.files(in: folder)
            } catch {
                errors += error.errors
                continue
            }
            for file in files {
                do {
                    documents.append(try read(path: file))
                } catch {
                    errors += error.errors
                }
            }
        }
        guard errors.isEmpty else { throw ConfigurationErrors(errors) }
        return ProfileCatalog(documents: documents)
    }

    package static func read(path: String) throws(ConfigurationErrors) -> ProfileDocument {
        try Document.read(path: path) { document($0) }
    }

    package static func read(text: String, file: String) throws(ConfigurationErrors) -> ProfileDocument {
        try Document.read(text: text, file: file) { document($0) }
    }

    private static func document(_ root: DocumentValue) -> ProfileDocument? {
        root.object { object in
            ProfileDocument(
                accelerators: list(object.optional("accelerators"), ProfileFacts.accelerator),
                models: list(object.optional("models"), ProfileFacts.model),
                connectors: list(object.optional("connectors"), ProfileFacts.connector),
                efficiencies: list(object.optional("efficiencies"), ProfileFacts.efficiency),
                corrections: list(object.optional("corrections"), ProfileFacts.correction),
                prices: list(object.optional("prices"), ProfileFacts.price),
                fits: (object.optional("fits")?.list() ?? []).flatMap(ProfileFits.group)
            )
        }
    }

    private static func list<Entry>(_ value: DocumentValue?, _ read: (DocumentObject) -> Entry?) -> [Entry] {
        (value?.list() ?? []).compactMap { $0.object(read) }
    }
}
