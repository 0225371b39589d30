// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Configuration
import FoundationEssentials

/// Reads a kubeconfig file: tokens and client certificates, in the file or in others that it names.
package enum Kubeconfig {
    /// Data of a certificate chain in base64.
    private static let maxText = 1 << 20

    package static func read(path: String, context: String? = nil) throws(ConfigurationErrors)
        -> KubernetesConfiguration
    {
        let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
        return try Document.read(path: path) { configuration($0, context: context, folder: folder) }
    }

    package static func read(
        text: String,
        file: String,
        context: String? = nil
    ) throws(ConfigurationErrors) -> KubernetesConfiguration {
        try Document.read(text: text, file: file) { configuration($0, context: context, folder: "") }
    }

    /// The keys of a mapping. Unlike our own files, unknown keys are other clients' business.
    private typealias Fields = [String: DocumentValue]

    private static func fields(_ value: DocumentValue) -> Fields {
        Dictionary(value.entries().map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
    }

    private static func configuration(
        _ root: DocumentValue,
        context wanted: String?,
        folder: String
    ) -> KubernetesConfiguration? {
        let all = fields(root)
        guard let name = wanted ?? all["current-context"].flatMap({ $0.isNull ? nil : $0.string() }) else {
            root.reject("has no current-context: name one with --kubecontext")
            return nil
        }
        guard let context = entry(named: name, in: all["contexts"], of: "context", root) else { return nil }
        guard let clusterName = context["cluster"]?.string(),
            let cluster = entry(named: clusterName, in: all["clusters"], of: "cluster", root)
        else { return nil }
        guard let serverValue = cluster["server"], let server = serverValue.string() else {
            root.reject("the cluster \"\(clusterName)\" names no server")
            return nil
        }
        guard server.hasPrefix("https://") || server.hasPrefix("http://") else {
            serverValue.reject("must begin with https:// or http://, not \(server)")
            return nil
        }
        var result = KubernetesConfiguration(server: server.hasSuffix("/") ? String(server.dropLast()) : server)
        result.authority = material(cluster, "certificate-authority", folder)
        result.verifiesServer = !(cluster["insecure-skip-tls-verify"]?.bool() ?? false)
        result.tlsServerName = cluster["tls-server-name"]?.string()
        result.namespace = context["namespace"]?.string(maxLength: 63) ?? "default"
        if let user = context["user"]?.string() {
            guard let fields = entry(named: user, in: all["users"], of: "user", root),
                let identity = identity(fields, folder)
            else { return nil }
            result.identity = identity
        }
        return result
    }

    /// The `kind` field of the list's element with this name.
    private static func entry(
        named name: String,
        in list: DocumentValue?,
        of kind: String,
        _ root: DocumentValue
    ) -> Fields? {
        for element in list?.list(maxCount: 10_000) ?? [] {
            let fields = fields(element)
            guard fields["name"]?.string() == name else { continue }
            // A user without any credentials is written as `user: {}`, and by some tools as nothing.
            return fields[kind].flatMap { $0.isNull ? nil : self.fields($0) } ?? [:]
        }
        root.reject("has no \(kind) \"\(name)\"")
        return nil
    }

    private static func identity(_ user: Fields, _ folder: String) -> KubernetesConfiguration.Identity? {
        if let exec = user["exec"], !exec.isNull {
            exec.reject(
                "programs that fetch credentials (exec) are not run: use a token (kubectl create token), tokenFile or "
                    + "a client certificate"
            )
            return nil
        }
        if let provider = user["auth-provider"], !provider.isNull {
            provider.reject(
                "auth-provider is no longer part of Kubernetes: use a token, tokenFile or a client certificate"
            )
            return nil
        }
        if let name = user["username"], !name.isNull {
            name.reject("API servers take no user names and passwords: use a token or a client certificate")
            return nil
        }
        var identity = KubernetesConfiguration.Identity()
        // A file wins over a token in the text, as client-go has it: it may be renewed.
        identity.token =
            user["tokenFile"]?.string(maxLength: 4096).map { .file(resolve($0, folder)) }
            ?? user["token"]?.string(maxLength: maxText).map { .text($0) }
        identity.certificate = material(user, "client-certificate", folder)
        identity.key = material(user, "client-key", folder)
        if (identity.certificate == nil) != (identity.key == nil) {
            (user["client-certificate"] ?? user["client-certificate-data"] ?? user["client-key"]
                ?? user["client-key-data"])?
                .reject("a client certificate needs its key, and a key its certificate")
        }
        return identity
    }

    /// `NAME-data` in base64, else the file that `NAME` names.
    private static func material(
        _ fields: Fields,
        _ name: String,
        _ folder: String
    ) -> KubernetesConfiguration.Material? {
        if let value = fields[name + "-data"], !value.isNull {
            guard let encoded = value.string(maxLength: maxText),
                let data = Data(base64Encoded: encoded.filter { !$0.isWhitespace }),
                let text = String(validating: data, as: UTF8.self)
            else {
                value.reject("must be PEM in base64")
                return nil
            }
            return .text(text)
        }
        guard let value = fields[name], !value.isNull else { return nil }
        return value.string(maxLength: 4096).map { .file(resolve($0, folder)) }
    }

    private static func resolve(_ path: String, _ folder: String) -> String {
        path.hasPrefix("/") ? path : folder + path
    }
}
