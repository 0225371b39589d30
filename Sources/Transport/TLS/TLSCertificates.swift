// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Glibc
internal import Synchronization

/// What a server speaks TLS with.
package struct TLSOptions: Sendable {
    /// A folder with `tls.crt` and `tls.key`, as Kubernetes mounts a secret. nil: a self-signed certificate is made.
    package var certificateFolder: String?
    package var minimumVersion = TLSVersion.v1_2
    /// Whether changed files are read again.
    package var reloads = true
    /// Whom to serve. nil: everybody.
    package var clients: TLSClients?

    package init(certificateFolder: String? = nil, minimumVersion: TLSVersion = .v1_2, reloads: Bool = true) {
        self.certificateFolder = certificateFolder
        self.minimumVersion = minimumVersion
        self.reloads = reloads
    }
}

/// The clients that are served: those with a certificate of this authority, and of one of these names.
package struct TLSClients: Sendable, Hashable {
    /// A PEM file.
    package var authorityFile: String
    /// Common names. Empty: every name that the authority signed.
    package var names: [String]

    package init(authorityFile: String, names: [String]) {
        self.authorityFile = authorityFile
        self.names = names
    }
}

/// What became of changed certificate files.
package enum TLSReload: Sendable, Hashable {
    case reloaded
    /// The certificate in use stays.
    case failed(TLSError)
}

/// The certificate in use, replaced when its files change. May be used from any thread.
package final class TLSCertificates: Sendable {
    let options: TLSOptions
    private let state: Mutex<State>

    private struct State {
        var context: TLSContext
        /// Of the files last looked at, good or bad.
        var stamp: FileStamps?
    }

    /// - Throws: where the files cannot be read, or do not fit each other.
    package init(_ options: TLSOptions) throws(TLSError) {
        self.options = options
        let stamp = options.certificateFolder.map(FileStamps.init)
        state = Mutex(State(context: try Self.load(options), stamp: stamp))
    }

    var current: TLSContext { state.withLock { $0.context } }

    /// Reads the files again if they changed since they were last looked at. Connections that are open keep what they have.
    ///
    /// - Returns: nil where nothing changed.
    package func reloadIfChanged() -> TLSReload? {
        guard let folder = options.certificateFolder else { return nil }
        let stamp = FileStamps(folder)
        let isNew = state.withLock { state in
            defer { state.stamp = stamp }
            return state.stamp != stamp
        }
        guard isNew else { return nil }
        do throws(TLSError) {
            let context = try Self.load(options)
            state.withLock { $0.context = context }
            return .reloaded
        } catch {
            return .failed(error)
        }
    }

    private static func load(_ options: TLSOptions) throws(TLSError) -> TLSContext {
        guard let folder = options.certificateFolder else {
            let hosts = ["localhost", hostName(), "127.0.0.1", "::1"].compactMap { $0 }
            return try TLSContext(
                selfSignedFor: hosts,
                minimumVersion: options.minimumVersion,
                clients: options.clients
            )
        }
        return try TLSContext(
            certificate: "\(folder)/\(certificateName)",
            key: "\(folder)/\(keyName)",
            minimumVersion: options.minimumVersion,
            clients: options.clients
        )
    }

    fileprivate static let certificateName = "tls.crt"
    fileprivate static let keyName = "tls.key"

    /// The host's name, where it can be a DNS name.
    private static func hostName() -> String? {
        // HOST_NAME_MAX is 64 on Linux (gethostname(2)).
        var bytes = [CChar](repeating: 0, count: 65)
        let code = unsafe gethostname(&bytes, bytes.count)
        guard code == 0 else { return nil }
        let name = String(decoding: bytes.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        let isName = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."):
                true
            default: false
            }
        }
        return isName && !name.isEmpty ? name : nil
    }
}

/// What tells one state of the two files from another. Symbolic links are followed: Kubernetes swaps a link.
private struct FileStamps: Hashable {
    private struct Stamp: Hashable {
        var device: UInt64 = 0
        var inode: UInt64 = 0
        var size: Int64 = 0
        var seconds: Int = 0
        var nanoseconds: Int = 0

        init(_ path: String) {
            var info = stat()
            guard unsafe stat(path, &info) == 0 else { return }
            device = UInt64(info.st_dev)
            inode = UInt64(info.st_ino)
            size = Int64(info.st_size)
            seconds = info.st_mtim.tv_sec
            nanoseconds = info.st_mtim.tv_nsec
        }
    }

    private let certificate: Stamp
    private let key: Stamp

    init(_ folder: String) {
        certificate = Stamp("\(folder)/\(TLSCertificates.certificateName)")
        key = Stamp("\(folder)/\(TLSCertificates.keyName)")
    }
}
