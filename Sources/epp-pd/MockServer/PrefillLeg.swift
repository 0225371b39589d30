// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FlyingFox
import FlyingSocks
import Foundation

/// What the sidecar of a decode pod does first: it has the prefill pod compute the prompt, over HTTP.
struct PrefillLeg: Sendable {
    enum Outcome: Sendable {
        /// The prompt's KV waits at the prefill pod under this name.
        case ready(remoteRequest: String?, cachedTokens: Int?)
        /// The prefill pod's own answer, to be passed on as it is.
        case refused(HTTPResponse)
    }

    private struct Answer: Decodable {
        struct Usage: Decodable {
            struct Details: Decodable {
                var cached_tokens: Int?
            }
            var prompt_tokens_details: Details?
        }
        struct Parameters: Decodable {
            var remote_request_id: String?
        }
        var usage: Usage?
        var kv_transfer_params: Parameters?
    }

    let hostPort: String
    let path: String
    let body: Data
    /// Where the prefill pod shall fetch the prompt's start from.
    let kvSource: String?

    func run() async -> Outcome {
        guard let address = Self.address(hostPort), let leg = prefillBody else {
            return .refused(
                ServedAnswer.error(400, type: "Bad Request", message: "x-prefiller-host-port is no host and port")
            )
        }
        let request = HTTPRequest(
            method: .POST,
            version: .http11,
            path: path,
            query: [],
            headers: [
                .host: hostPort, .contentType: "application/json", .connection: "close",
                HTTPHeader("x-request-id"): UUID().uuidString.lowercased(),
            ],
            body: HTTPBodySequence(data: leg)
        )
        do {
            var client = HTTPClient()
            let response = try await client.sendHTTPRequest(request, to: address)
            let data = try await response.bodyData
            guard response.statusCode.code == 200 else {
                return .refused(
                    ServedAnswer.passedOn(
                        response.statusCode.code,
                        contentType: response.headers[.contentType],
                        body: data
                    )
                )
            }
            let answer = try JSONDecoder().decode(Answer.self, from: data)
            return .ready(
                remoteRequest: answer.kv_transfer_params?.remote_request_id,
                cachedTokens: answer.usage?.prompt_tokens_details?.cached_tokens
            )
        } catch {
            let message = "prefill at \(hostPort) failed: \(error.localizedDescription)"
            return .refused(ServedAnswer.error(502, type: "BadGateway", message: message))
        }
    }

    /// The client's body, for a prefill alone: vLLM's protocol for NIXL.
    private var prefillBody: Data? {
        guard var fields = (try? JSONSerialization.jsonObject(with: body)) as? [String: Any] else { return nil }
        fields["max_tokens"] = 1
        if fields["max_completion_tokens"] != nil { fields["max_completion_tokens"] = 1 }
        fields["stream"] = false
        fields["stream_options"] = nil
        let none = NSNull()
        var parameters: [String: Any] = [
            "do_remote_decode": true, "do_remote_prefill": false, "remote_engine_id": none, "remote_block_ids": none,
            "remote_host": none, "remote_port": none,
        ]
        if let kvSource, let colon = kvSource.lastIndex(of: ":"),
            let port = Int(kvSource[kvSource.index(after: colon)...])
        {
            parameters["remote_kv_source"] = ["remote_host": String(kvSource[..<colon]), "remote_port": port]
        }
        fields["kv_transfer_params"] = parameters
        return try? JSONSerialization.data(withJSONObject: fields)
    }

    private static func address(_ hostPort: String) -> sockaddr_in? {
        guard let colon = hostPort.lastIndex(of: ":"), let port = UInt16(hostPort[hostPort.index(after: colon)...])
        else { return nil }
        return try? .inet(ip4: String(hostPort[..<colon]), port: port)
    }
}
