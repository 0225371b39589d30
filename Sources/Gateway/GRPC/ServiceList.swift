// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Several services on one port: the first that knows a method serves it.
package final class ServiceList: GRPCService {
    private let services: [any GRPCService]

    package init(_ services: [any GRPCService]) { self.services = services }

    package func handler(path: String, call: any GRPCCall) -> (any GRPCCallHandler)? {
        for service in services {
            if let handler = service.handler(path: path, call: call) { return handler }
        }
        return nil
    }
}
