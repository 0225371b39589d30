// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Configuration

/// Where the API server is, and who we are to it.
///
/// Files are named, not read: tokens and certificates are renewed under the running process, so each request reads them.
package struct KubernetesConfiguration: Sendable, Hashable {
    /// Text that is given, or is in a file that may be replaced at any time.
    package enum Material: Sendable, Hashable {
        case text(String)
        case file(String)

        /// Larger than any chain of certificates in use.
        static let maxBytes = 1 << 20

        /// - Throws: where a file cannot be read or has nothing in it, as while it is being replaced.
        func read(_ calls: some APICalls) throws(KubernetesFailure) -> String {
            switch self {
            case .text(let text): return text
            case .file(let path):
                let text: String
                do {
                    text = try calls.text(path: path, limit: Self.maxBytes)
                } catch { throw .credentials("\(path): \(error)") }
                guard text.contains(where: { !$0.isWhitespace }) else { throw .credentials("\(path): it is empty") }
                return text
            }
        }
    }

    /// How the client proves who it is. Several may be given; the server takes what it knows.
    package struct Identity: Sendable, Hashable {
        package var token: Material?
        package var certificate: Material?
        package var key: Material?

        package init(token: Material? = nil, certificate: Material? = nil, key: Material? = nil) {
            self.token = token
            self.certificate = certificate
            self.key = key
        }
    }

    /// Scheme, host and port, without a slash at the end.
    package var server: String
    /// nil: the system's certificate authorities.
    package var authority: Material?
    package var verifiesServer: Bool
    /// Name that the server's certificate must bear, where it is not the server's host.
    package var tlsServerName: String?
    package var identity: Identity
    /// The namespace that we run in, or that the kubeconfig's context names.
    package var namespace: String

    package init(
        server: String,
        authority: Material? = nil,
        verifiesServer: Bool = true,
        tlsServerName: String? = nil,
        identity: Identity = Identity(),
        namespace: String = "default"
    ) {
        self.server = server
        self.authority = authority
        self.verifiesServer = verifiesServer
        self.tlsServerName = tlsServerName
        self.identity = identity
        self.namespace = namespace
    }

    /// Where each pod finds its service account (Kubernetes, "Accessing the API from within a Pod").
    package static let serviceAccountFolder = "/var/run/secrets/kubernetes.io/serviceaccount"

    /// The configuration of a process in a pod; nil outside of one.
    package static func inCluster(
        environment: [String: String],
        folder: String = serviceAccountFolder
    ) -> KubernetesConfiguration? {
        guard let host = environment["KUBERNETES_SERVICE_HOST"], !host.isEmpty,
            let port = environment["KUBERNETES_SERVICE_PORT"], UInt16(port) != nil
        else { return nil }
        let namespace = try? FileContents.text(path: folder + "/namespace", limit: 1024)
        return KubernetesConfiguration(
            server: "https://" + (host.contains(":") ? "[\(host)]" : host) + ":\(port)",
            authority: .file(folder + "/ca.crt"),
            identity: Identity(token: .file(folder + "/token")),
            namespace: namespace.map { $0.filter { !$0.isWhitespace } } ?? "default"
        )
    }

    /// Finds the configuration as other clients do: the file that is named, else `KUBECONFIG`, else the pod's service
    /// account, else `~/.kube/config`.
    ///
    /// - Throws: what is wrong in the file, or that there is none.
    package static func find(
        file: String?,
        context: String? = nil,
        environment: [String: String]
    ) throws(ConfigurationErrors) -> KubernetesConfiguration {
        if let file { return try Kubeconfig.read(path: file, context: context) }
        // A list of files would be merged by kubectl; the first is the one that it writes to.
        if let listed = environment["KUBECONFIG"]?.split(separator: ":").first {
            return try Kubeconfig.read(path: String(listed), context: context)
        }
        if let here = inCluster(environment: environment) { return here }
        if let home = environment["HOME"] { return try Kubeconfig.read(path: home + "/.kube/config", context: context) }
        let message = "neither in a pod nor with a kubeconfig: name one with --kubeconfig"
        throw ConfigurationErrors(ConfigurationError(file: "kubernetes", message: message))
    }
}
