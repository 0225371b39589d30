// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Gateway
import Router

/// The HTTP answer that a refusal becomes: OpenAI's error object, and the reason header that llm-d's clients know.
enum RefusalAnswer {
    /// Header with the reason for a dropped request (endpoint-picker protocol of llm-d).
    static let reasonHeader = "x-llm-d-request-dropped-reason"

    /// What a client is told to wait where nothing better is known: one round of scraping and discovery.
    static let defaultRetryAfter = Seconds(1)

    static func answer(to refusal: Refusal) -> ImmediateAnswer {
        switch refusal {
        case .noEndpoint(let reason):
            APIError(status: 503, message: "No endpoint can take this request: \(reason).")
                .answer(
                    headers: dropped("rejected-no-endpoints", retryAfter: defaultRetryAfter),
                    details: "epp_pd_no_endpoint"
                )
        case .unknownModel(let model):
            APIError(status: 404, message: "The model `\(model)` does not exist.", param: "model")
                .answer(details: "epp_pd_unknown_model")
        case .shed(let reason, let retryAfter):
            APIError(status: 429, message: "Refused under load: \(reason).")
                .answer(headers: dropped("rejected-saturated", retryAfter: retryAfter), details: "epp_pd_shed")
        }
    }

    /// The request took longer than any may.
    static var timedOut: ImmediateAnswer {
        APIError(status: 504, message: "The request was not answered in time.")
            .answer(details: "epp_pd_request_timeout")
    }

    private static func dropped(_ reason: String, retryAfter: Seconds) -> [ImmediateAnswer.Header] {
        // RFC 9110, section 10.2.3: whole seconds.
        let seconds = min(max(retryAfter.rawValue, 1), 3600).rounded(.up)
        return [
            ImmediateAnswer.Header(reasonHeader, reason),
            ImmediateAnswer.Header("retry-after", String(Int(seconds))),
        ]
    }
}
