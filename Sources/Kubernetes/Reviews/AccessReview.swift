// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FoundationEssentials

extension KubernetesClient {
    /// Asks who the bearer of a token is (TokenReview), and whether he may read a path (SubjectAccessReview). Waits for the
    /// answers.
    package func access(token: String, path: String, verb: String = "get") -> Access {
        let user: UserInfo
        do throws(ReviewFailure) {
            user = try authenticate(token)
        } catch {
            return error.access
        }
        do throws(ReviewFailure) {
            try authorize(user, path: path, verb: verb)
            return .allowed
        } catch {
            return error.access
        }
    }

    private struct ReviewFailure: Error {
        var access: Access
    }

    private func authenticate(_ token: String) throws(ReviewFailure) -> UserInfo {
        let review = TokenReview(spec: TokenReview.Specification(token: token))
        let answer: TokenReview = try ask("/apis/authentication.k8s.io/v1/tokenreviews", review)
        guard answer.status?.authenticated == true, let user = answer.status?.user, user.username?.isEmpty == false
        else {
            let why = answer.status?.error ?? "the token is not known to the cluster"
            throw ReviewFailure(access: .unauthenticated(why))
        }
        return user
    }

    private func authorize(_ user: UserInfo, path: String, verb: String) throws(ReviewFailure) {
        let review = SubjectAccessReview(
            spec: SubjectAccessReview.Specification(
                nonResourceAttributes: SubjectAccessReview.Attributes(path: path, verb: verb),
                user: user.username,
                groups: user.groups,
                uid: user.uid,
                extra: user.extra
            )
        )
        let answer: SubjectAccessReview = try ask("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        guard answer.status?.allowed == true else {
            let reason = answer.status?.reason.flatMap { $0.isEmpty ? nil : ": \($0)" } ?? ""
            throw ReviewFailure(access: .forbidden("\(user.username ?? "") may not \(verb) \(path)\(reason)"))
        }
    }

    private func ask<Review: Codable>(_ path: String, _ review: Review) throws(ReviewFailure) -> Review {
        guard let body = try? JSONEncoder().encode(review) else {
            throw ReviewFailure(access: .unauthenticated("the token is no text"))
        }
        let response: KubernetesResponse
        do throws(KubernetesFailure) {
            response = try request("POST", path, body: Array(body))
        } catch {
            throw ReviewFailure(access: .unknown("the API server \(error)"))
        }
        guard response.isSuccess else {
            let failure = KubernetesFailure.status(response.status, response.message)
            throw ReviewFailure(access: .unknown("the API server \(failure) at \(path)"))
        }
        guard let answer = try? JSONDecoder().decode(Review.self, from: Data(response.body)) else {
            throw ReviewFailure(access: .unknown("the API server answered garbage at \(path)"))
        }
        return answer
    }
}

private struct UserInfo: Codable {
    var username: String?
    var uid: String?
    var groups: [String]?
    var extra: [String: [String]]?
}

private struct TokenReview: Codable {
    struct Specification: Codable {
        var token: String?
    }

    struct Status: Codable {
        var authenticated: Bool?
        var user: UserInfo?
        var error: String?
    }

    var apiVersion: String? = "authentication.k8s.io/v1"
    var kind: String? = "TokenReview"
    var spec: Specification?
    var status: Status?
}

private struct SubjectAccessReview: Codable {
    struct Attributes: Codable {
        var path: String?
        var verb: String?
    }

    struct Specification: Codable {
        var nonResourceAttributes: Attributes?
        var user: String?
        var groups: [String]?
        var uid: String?
        var extra: [String: [String]]?
    }

    struct Status: Codable {
        var allowed: Bool?
        var reason: String?
    }

    var apiVersion: String? = "authorization.k8s.io/v1"
    var kind: String? = "SubjectAccessReview"
    var spec: Specification?
    var status: Status?
}
