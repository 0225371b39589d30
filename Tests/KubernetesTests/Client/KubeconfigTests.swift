// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import Foundation
import Testing

@testable import Kubernetes

@Suite("Kubeconfig")
struct KubeconfigTests {
    static func file(user: String, cluster: String = "server: https://10.0.0.1:6443") -> String {
        """
        apiVersion: v1
        kind: Config
        preferences: {}
        current-context: dev
        contexts:
        - {name: other, context: {cluster: c, user: nobody}}
        - {name: dev, context: {cluster: c, user: me, namespace: serving}}
        clusters:
        - name: c
          cluster:
            \(cluster)
        users:
        - name: nobody
          user: {}
        - name: me
          user:
            \(user)
        """
    }

    func read(_ user: String, context: String? = nil) throws -> KubernetesConfiguration {
        try Kubeconfig.read(text: Self.file(user: user), file: "config", context: context)
    }

    @Test("Token, namespace, context")
    func token() throws {
        let configuration = try read("token: abc")
        #expect(configuration.server == "https://10.0.0.1:6443")
        #expect(configuration.namespace == "serving")
        #expect(configuration.identity.token == .text("abc"))
        #expect(configuration.verifiesServer)
        #expect(try read("token: abc", context: "other").identity == KubernetesConfiguration.Identity())
    }

    @Test("Certificates in base64 and in files")
    func certificates() throws {
        let pem = Data("PEM".utf8).base64EncodedString()
        let inline = try read("client-certificate-data: \(pem)\n    client-key-data: \(pem)")
        #expect(inline.identity.certificate == .text("PEM"))
        #expect(inline.identity.key == .text("PEM"))
        let files = try read("client-certificate: /a/cert\n    client-key: key.pem\n    tokenFile: /t")
        #expect(files.identity.certificate == .file("/a/cert"))
        #expect(files.identity.key == .file("key.pem"))
        #expect(files.identity.token == .file("/t"))
    }

    @Test(
        "What cannot be used is refused with the reason",
        arguments: [
            ("exec: {command: aws}", "exec"), ("auth-provider: {name: gcp}", "auth-provider"),
            ("username: admin\n    password: x", "user names"), ("client-certificate: /a", "needs its key"),
            ("client-key-data: '%%'\n    client-certificate: /a", "base64"),
        ]
    )
    func refused(_ user: String, _ words: String) {
        #expect {
            try read(user)
        } throws: { error in
            "\(error)".contains(words) && "\(error)".hasPrefix("config:")
        }
    }

    @Test("Missing parts are named")
    func missing() {
        #expect(throws: ConfigurationErrors.self) { try read("token: a", context: "gone") }
        #expect(throws: ConfigurationErrors.self) {
            try Kubeconfig.read(text: "kind: Config\ncontexts: []\n", file: "config")
        }
        #expect(throws: ConfigurationErrors.self) {
            try Kubeconfig.read(text: Self.file(user: "{}", cluster: "server: ftp://x"), file: "config")
        }
    }

    @Test("In a pod the service account's files are named, not read")
    func inCluster() throws {
        let environment = ["KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"]
        let configuration = try #require(
            KubernetesConfiguration.inCluster(environment: environment, folder: "/nowhere")
        )
        #expect(configuration.server == "https://[fd00::1]:443")
        #expect(configuration.identity.token == .file("/nowhere/token"))
        #expect(configuration.authority == .file("/nowhere/ca.crt"))
        #expect(configuration.namespace == "default")
        #expect(KubernetesConfiguration.inCluster(environment: [:]) == nil)
    }

    @Test(
        "A server's place",
        arguments: [
            ("https://a.b:6443", "a.b", 6443, ""), ("https://[fd00::1]/k8s/x", "[fd00::1]", 443, "/k8s/x"),
            ("http://h", "h", 80, ""),
        ]
    )
    func place(_ url: String, _ host: String, _ port: Int, _ path: String) throws {
        let place = try #require(APIServerPlace(url))
        #expect(place.host == host)
        #expect(place.port == port)
        #expect(place.path == path)
    }
}
