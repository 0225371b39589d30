// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import FoundationEssentials

/// Follows the objects of one kind: lists them page by page, then watches from the list's resourceVersion, for ever.
///
/// Pure: bytes, ends and the time go in; requests and objects come out. The states are `pausing → listing → pausing →
/// watching → pausing …`; a pause may be of no length.
///
/// - 410 Gone, as a status or as an ERROR event, leads to a fresh list; 410 within a list's pages to a list without pages.
/// - 404 in the words of an API server says that the kind is not installed: there are no objects of it, and it is asked for
///   again after `absentRetry`. Objects that are known go only once the server has said so for that long. Any other 404 is a
///   failure, and so is one for a kind that every API server has: a proxy that lost its server answers so.
/// - Every other failure leaves the objects as they are, and is retried at `RetryPace`.
///
/// Reference: Kubernetes API Concepts, "Efficient detection of changes", "Watch bookmarks", "Retrieving large results sets in
/// chunks".
package struct ResourceWatch<Object: KubernetesObject>: Sendable {
    package let place: ResourcePlace
    package private(set) var objects: [ObjectName: Object] = [:]
    /// Objects whose last state cannot be read, and why. Their state before it, if any, is in `objects`.
    package private(set) var invalid: [ObjectName: String] = [:]
    package private(set) var standing = WatchStanding.starting
    package private(set) var counts = WatchCounts()
    /// A list has been complete, or the kind is not installed.
    package private(set) var isSynced = false
    /// Grows with every change of `objects`, `invalid`, `isSynced` or `standing`.
    package private(set) var revision: UInt64 = 0

    private let settings: WatchSettings
    private var phase = Phase.pausing(until: 0)
    /// Where to go on watching; nil: list first.
    private var resourceVersion: String?
    private var listsWhole = false
    /// Since when the server has said that a kind whose objects we know does not exist.
    private var missingSince: Double?
    private var pace: RetryPace

    private enum Phase: Sendable {
        case pausing(until: Double)
        case listing(List)
        case watching(Watching)
    }

    private struct List: Sendable {
        var body: [UInt8] = []
        /// Of the pages before this one.
        var found: [DecodedObject<Object>] = []
        var next: String?
        var pages = 0
    }

    private struct Watching: Sendable {
        var lines = JSONLines()
        var began: Double
        /// The server said that it watches.
        var isAnswered = false
        /// The body of an answer that is no success.
        var refusal: [UInt8] = []
        var sawEvent = false
        var end: End?

        enum End: Sendable, Hashable {
            case expired
            case failed(KubernetesFailure)
        }
    }

    package init(_ place: ResourcePlace, _ settings: WatchSettings = WatchSettings()) {
        self.place = place
        self.settings = settings
        pace = RetryPace(first: settings.firstRetry, longest: settings.longestRetry)
    }

    // MARK: - Requests

    /// When `request` should be asked again, if nothing happens before.
    package var nextWake: Double {
        switch phase {
        case .pausing(let until): until
        case .listing: .infinity
        case .watching(let watching): steadyTime(watching) ?? .infinity
        }
    }

    /// When a watch that goes on will have shown that the trouble before it is over; nil where there was none. Not at its
    /// first word: a server that answers and falls silent, again and again, would be told as well and ill in turns.
    private func steadyTime(_ watching: Watching) -> Double? {
        watching.isAnswered && standing.isTrouble ? watching.began + settings.steadyAfter.rawValue : nil
    }

    /// The request to send now, where one is due. Its bytes and its end are then owed to this machine.
    package mutating func request(
        at now: Double,
        using random: inout some RandomNumberGenerator
    ) -> KubernetesRequest? {
        if case .watching(let watching) = phase, let steady = steadyTime(watching), now >= steady {
            pace.succeeded()
            stand(.live)
        }
        guard case .pausing(let until) = phase, now >= until else { return nil }
        guard let resourceVersion else {
            phase = .listing(List())
            return listRequest(next: nil)
        }
        counts.watches += 1
        phase = .watching(Watching(began: now))
        let longest = settings.watchTimeout.rawValue
        let timeout = max(longest * Double.random(in: 0.75...1, using: &random), 1).rounded()
        return KubernetesRequest(
            path: place.path,
            query: place.selectors + [
                KubernetesRequest.Parameter("watch", "1"),
                KubernetesRequest.Parameter("allowWatchBookmarks", "true"),
                KubernetesRequest.Parameter("resourceVersion", resourceVersion),
                KubernetesRequest.Parameter("timeoutSeconds", String(Int(timeout))),
            ],
            // The server ends a watch at its time-out; one that does not hangs.
            timeout: Seconds(timeout + settings.hangGrace.rawValue)
        )
    }

    /// The next page of a list that is under way; nil where it is not.
    private func listRequest(next: String?) -> KubernetesRequest {
        var query = place.selectors
        if !listsWhole { query.append(KubernetesRequest.Parameter("limit", String(settings.pageSize))) }
        if let next { query.append(KubernetesRequest.Parameter("continue", next)) }
        return KubernetesRequest(path: place.path, query: query, timeout: settings.listTimeout)
    }

    // MARK: - Answers

    /// Takes bytes of the answer in flight; none at first, when only its status is known.
    ///
    /// - Returns: false where the answer is of no further use: the transfer should be ended, and its end told.
    package mutating func received(_ bytes: [UInt8], status: Int) -> Bool {
        switch phase {
        case .pausing: return false
        case .listing(var list):
            phase = .pausing(until: 0)
            list.body.append(contentsOf: bytes)
            let fits = list.body.count <= settings.maxListBytes
            phase = .listing(list)
            return fits
        case .watching(var watching):
            // Emptied first, so that the lines have one owner and are not copied.
            phase = .pausing(until: 0)
            let goesOn = take(bytes, status, &watching)
            phase = .watching(watching)
            return goesOn
        }
    }

    /// The answer in flight is over: `failure` nil where it came whole.
    ///
    /// - Returns: a further request to send at once: the list's next page.
    package mutating func ended(
        status: Int,
        retryAfter: Double? = nil,
        failure: KubernetesFailure?,
        at now: Double,
        using random: inout some RandomNumberGenerator
    ) -> KubernetesRequest? {
        switch phase {
        case .pausing: return nil
        case .listing(let list):
            return listEnded(list, status, retryAfter, failure, now, &random)
        case .watching(let watching):
            watchEnded(watching, status, retryAfter, failure, now, &random)
            return nil
        }
    }

    // MARK: - Lists

    private mutating func listEnded(
        _ list: List,
        _ status: Int,
        _ retryAfter: Double?,
        _ failure: KubernetesFailure?,
        _ now: Double,
        _ random: inout some RandomNumberGenerator
    ) -> KubernetesRequest? {
        if let failure {
            let tooLarge = list.body.count > settings.maxListBytes
            failed(tooLarge ? .tooLarge : failure, retryAfter, now, &random)
            return nil
        }
        guard status == 200 else {
            if status == 410, list.pages > 0 {
                // The pages took longer than the server keeps its past: take all at once.
                counts.expirations += 1
                listsWhole = true
                phase = .pausing(until: now)
                return nil
            }
            refused(status, list.body, retryAfter, now, &random)
            return nil
        }
        let page: ListPage<Object>
        do {
            page = try JSONDecoder().decode(ListPage<Object>.self, from: Data(list.body))
        } catch {
            failed(.garbage("a list of \(place.kind): \(DecodingText.of(error))"), retryAfter, now, &random)
            return nil
        }
        let found = list.found + (page.items ?? [])
        guard found.count <= settings.maxObjects else {
            failed(.tooLarge, retryAfter, now, &random)
            return nil
        }
        if let next = page.metadata.continue, !next.isEmpty {
            phase = .listing(List(found: found, next: next, pages: list.pages + 1))
            return listRequest(next: next)
        }
        guard let version = page.metadata.resourceVersion, !version.isEmpty else {
            failed(.garbage("a list of \(place.kind) without a resourceVersion"), retryAfter, now, &random)
            return nil
        }
        replace(found)
        counts.lists += 1
        missingSince = nil
        listsWhole = false
        resourceVersion = version
        pace.succeeded()
        isSynced = true
        stand(.live)
        phase = .pausing(until: now)
        return nil
    }

    private mutating func replace(_ found: [DecodedObject<Object>]) {
        let before = (objects, invalid)
        objects = [:]
        invalid = [:]
        for item in found {
            switch item {
            case .valid(let object): objects[object.metadata.objectName] = object
            case .invalid(let name, let why):
                invalid[name] = why
                objects[name] = before.0[name]
            }
        }
        if before.0 != objects || before.1 != invalid || !isSynced { revision &+= 1 }
    }

    // MARK: - Watches

    private mutating func take(_ bytes: [UInt8], _ status: Int, _ watching: inout Watching) -> Bool {
        guard watching.end == nil else { return false }
        guard status == 200 else {
            // A Status object is short; what is longer is none.
            if watching.refusal.count + bytes.count <= JSONLines.maxLine { watching.refusal += bytes }
            return true
        }
        watching.isAnswered = true
        guard let lines = watching.lines.take(bytes) else {
            watching.end = .failed(.tooLarge)
            return false
        }
        for line in lines {
            let read: WatchLine<Object>
            do {
                read = try JSONDecoder().decode(WatchLine<Object>.self, from: Data(line))
            } catch {
                counts.badLines += 1
                watching.end = .failed(.garbage("a watch of \(place.kind): \(DecodingText.of(error))"))
                return false
            }
            apply(read, &watching)
            if watching.end != nil { return false }
        }
        return true
    }

    private mutating func apply(_ line: WatchLine<Object>, _ watching: inout Watching) {
        switch line.event {
        case .present(.valid(let object)):
            let name = object.metadata.objectName
            if objects.updateValue(object, forKey: name) != object { revision &+= 1 }
            if invalid.removeValue(forKey: name) != nil { revision &+= 1 }
        case .present(.invalid(let name, let why)):
            if invalid.updateValue(why, forKey: name) != why { revision &+= 1 }
        case .deleted(let name):
            let known = objects.removeValue(forKey: name) != nil
            let wasInvalid = invalid.removeValue(forKey: name) != nil
            if known || wasInvalid { revision &+= 1 }
        case .bookmark:
            counts.bookmarks += 1
        case .error(let status):
            if status.code == 410 {
                watching.end = .expired
            } else {
                watching.end = .failed(.status(status.code ?? 500, status.text))
            }
            return
        case .unknown(let type):
            counts.badLines += 1
            watching.end = .failed(.garbage("a watch of \(place.kind): an event of the type \"\(type)\""))
            return
        }
        counts.events += 1
        watching.sawEvent = true
        if let version = line.resourceVersion, !version.isEmpty { resourceVersion = version }
    }

    private mutating func watchEnded(
        _ watching: Watching,
        _ status: Int,
        _ retryAfter: Double?,
        _ failure: KubernetesFailure?,
        _ now: Double,
        _ random: inout some RandomNumberGenerator
    ) {
        let lived = now - watching.began
        if watching.sawEvent || lived >= settings.steadyAfter.rawValue { pace.succeeded() }
        if status == 410 || watching.end == .expired {
            counts.expirations += 1
            resourceVersion = nil
            // A server that calls every version too old must not be asked without a pause.
            phase = .pausing(until: now + (lived < settings.steadyAfter.rawValue ? pace.failed(using: &random) : 0))
            return
        }
        if case .failed(let why) = watching.end {
            // Whatever was wrong may be in the version that we ask from.
            resourceVersion = nil
            return failed(why, retryAfter, now, &random)
        }
        if let failure { return failed(failure, retryAfter, now, &random) }
        guard status == 200 else {
            if status == 404 || status == 403 || status == 400 { resourceVersion = nil }
            return refused(status, watching.refusal, retryAfter, now, &random)
        }
        stand(.live)
        // Ended by its own time-out, as watches do. One that ends at once, again and again, is slowed down.
        let pause = lived >= settings.steadyAfter.rawValue || watching.sawEvent ? 0 : pace.failed(using: &random)
        phase = .pausing(until: now + pause)
    }

    // MARK: - Failures

    private mutating func refused(
        _ status: Int,
        _ body: [UInt8],
        _ retryAfter: Double?,
        _ now: Double,
        _ random: inout some RandomNumberGenerator
    ) {
        let isAbsent = status == 404 && !place.isBuiltIn && APIStatus.saysAbsent(body)
        if status == 404, !isAbsent {
            missingSince = nil
            let what = place.isBuiltIn ? "no API server lacks \(place.kind)" : "not in the words of an API server"
            return failed(.status(404, what), retryAfter, now, &random)
        }
        if isAbsent, !objects.isEmpty, now - (missingSince ?? now) < settings.absentRetry.rawValue {
            // A server that starts may not know its custom kinds yet: objects do not vanish for one such answer.
            missingSince = missingSince ?? now
            return failed(.status(404, "the kind is gone"), retryAfter, now, &random)
        }
        if isAbsent {
            missingSince = nil
            // There is no such kind, so there are no objects of it.
            replace([])
            isSynced = true
            resourceVersion = nil
            pace.succeeded()
            stand(.absent)
            phase = .pausing(until: now + settings.absentRetry.rawValue * Double.random(in: 0.5...1, using: &random))
            return
        }
        let message = APIStatus.message(in: body)
        if status == 403 {
            counts.failures += 1
            stand(.denied(message))
            phase = .pausing(
                until: now + max(pace.failed(using: &random), min(retryAfter ?? 0, settings.longestRetry.rawValue))
            )
            return
        }
        failed(.status(status, message), retryAfter, now, &random)
    }

    private mutating func failed(
        _ failure: KubernetesFailure,
        _ retryAfter: Double?,
        _ now: Double,
        _ random: inout some RandomNumberGenerator
    ) {
        counts.failures += 1
        stand(.failing(failure))
        let asked = min(retryAfter ?? 0, settings.longestRetry.rawValue)
        phase = .pausing(until: now + max(pace.failed(using: &random), asked))
    }

    private mutating func stand(_ next: WatchStanding) {
        guard next != standing else { return }
        standing = next
        revision &+= 1
    }
}
