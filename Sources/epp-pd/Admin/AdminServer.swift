// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FlyingFox
import FlyingSocks
import Foundation
import Kubernetes
import Synchronization

/// One page of the admin server: made anew for each request, off the data plane.
struct AdminPage: Sendable {
    var path: String
    var contentType: String
    /// Whether only those see it whom the cluster allows to.
    var isProtected = false
    /// The HTTP status and the text.
    var make: @Sendable () -> (status: Int, body: String)

    static let text = "text/plain; charset=utf-8"
    static let json = "application/json"
    /// Prometheus text format 0.0.4.
    static let metrics = "text/plain; version=0.0.4; charset=utf-8"

    init(_ path: String, _ contentType: String = text, _ make: @escaping @Sendable () -> (status: Int, body: String)) {
        self.path = path
        self.contentType = contentType
        self.make = make
    }
}

/// HTTP/1.1 for people, probes and Prometheus, on the metrics port.
final class AdminServer: Sendable {
    /// Scrapers and probes come every few seconds; a slower answer is no answer.
    private static let timeout: TimeInterval = 15

    private let server: HTTPServer
    private let task = Mutex<Task<Void, any Error>?>(nil)

    /// `access` guards the protected pages; nil: everybody sees them.
    ///
    /// - Throws: where `address` is no IP address.
    init(address: String?, port: UInt16, pages: [AdminPage], access: MetricsAccess? = nil) throws {
        let place: any SocketAddress =
            switch address {
            // Every address: Linux takes IPv4 on it too (net.ipv6.bindv6only is 0 where nobody changed it).
            case nil: Self.hasIPv6 ? .inet6(port: port) : .inet(port: port)
            case let address? where address.contains(":"): try .inet6(ip6: address, port: port)
            case let address?: try .inet(ip4: address, port: port)
            }
        server = HTTPServer(
            address: place,
            timeout: Self.timeout,
            logger: .disabled,
            handler: AdminHandler(pages: pages, access: access)
        )
    }

    /// Whether this kernel knows IPv6 at all; some containers' does not.
    private static var hasIPv6: Bool {
        let descriptor = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { return false }
        close(descriptor)
        return true
    }

    /// Begins to listen, and returns when it does.
    ///
    /// - Throws: where the port cannot be had.
    func start() throws {
        let outcome = Outcome()
        let server = server
        let running = Task {
            do { try await server.run() } catch {
                outcome.end(error)
                throw error
            }
        }
        task.withLock { $0 = running }
        Task {
            do {
                try await server.waitUntilListening(timeout: Self.timeout)
                outcome.end(nil)
            } catch { outcome.end(error) }
        }
        if let error = outcome.wait() { throw error }
    }

    func stop() { task.withLock { $0?.cancel() } }

    /// The first of: listening, failed.
    private final class Outcome: Sendable {
        private let semaphore = DispatchSemaphore(value: 0)
        private let result = Mutex<(isSet: Bool, error: (any Error)?)>((false, nil))

        func end(_ error: (any Error)?) {
            let isFirst = result.withLock { result in
                guard !result.isSet else { return false }
                result = (true, error)
                return true
            }
            if isFirst { semaphore.signal() }
        }

        func wait() -> (any Error)? {
            semaphore.wait()
            return result.withLock { $0.error }
        }
    }
}

/// Finds the page by its exact path.
private struct AdminHandler: HTTPHandler {
    var pages: [AdminPage]
    var access: MetricsAccess?

    func handleRequest(_ request: HTTPRequest) async throws -> HTTPResponse {
        guard let page = pages.first(where: { $0.path == request.path }) else {
            let known = pages.map(\.path).joined(separator: "\n") + "\n"
            return Self.response(404, AdminPage.text, "no such page; there are:\n" + known)
        }
        guard request.method == .GET || request.method == .HEAD else {
            return Self.response(405, AdminPage.text, "GET only\n")
        }
        if page.isProtected, let access, let refusal = await Self.refusal(request, access) { return refusal }
        let (status, body) = page.make()
        return Self.response(status, page.contentType, request.method == .HEAD ? "" : body)
    }

    private static func refusal(_ request: HTTPRequest, _ access: MetricsAccess) async -> HTTPResponse? {
        switch await access.access(authorization: request.headers[.authorization], path: request.path) {
        case .allowed: return nil
        case .unauthenticated(let why):
            var response = response(401, AdminPage.text, why + "\n")
            response.headers[HTTPHeader("WWW-Authenticate")] = "Bearer"
            return response
        case .forbidden(let why): return response(403, AdminPage.text, why + "\n")
        case .unknown(let why): return response(503, AdminPage.text, why + "\n")
        }
    }

    private static func response(_ status: Int, _ contentType: String, _ body: String) -> HTTPResponse {
        HTTPResponse(
            statusCode: HTTPStatusCode(status, phrase: ""),
            headers: [.contentType: contentType],
            body: Data(body.utf8)
        )
    }
}
