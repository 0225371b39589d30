// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@testable import Kubernetes

@Suite("Resource watch")
struct ResourceWatchTests {
    /// A watch of pods with its random source, driven by hand.
    struct Rig {
        var watch: ResourceWatch<Pod>
        var random = SplitMix64(seed: 7)
        var now = 0.0

        init(_ settings: WatchSettings = WatchSettings()) {
            let place = ResourcePlace(version: "v1", plural: "pods", namespace: "default", labelSelector: "app=vllm")
            watch = ResourceWatch(place, settings)
        }

        mutating func request() -> KubernetesRequest? { watch.request(at: now, using: &random) }

        /// The request that must be due.
        mutating func next() throws -> KubernetesRequest {
            let due = request()
            return try #require(due)
        }

        @discardableResult
        mutating func end(
            _ status: Int = 200,
            retryAfter: Double? = nil,
            _ failure: KubernetesFailure? = nil
        ) -> KubernetesRequest? {
            watch.ended(status: status, retryAfter: retryAfter, failure: failure, at: now, using: &random)
        }

        @discardableResult
        mutating func receive(_ text: String, status: Int = 200) -> Bool {
            watch.received(Array(text.utf8), status: status)
        }

        mutating func list(_ names: [String], version: String = "253") {
            _ = request()
            receive(ResourceWatchTests.page(names, version: version))
            end()
        }

        var names: [String] { watch.objects.keys.sorted().map(\.name) }
    }

    static func pod(_ name: String, label: String = "x") -> String {
        """
        {"metadata":{"name":"\(name)","namespace":"default","resourceVersion":"260","labels":{"app":"\(label)"}},\
        "spec":{"containers":[{"name":"c"}]}}
        """
    }

    static func page(_ names: [String], version: String, next: String = "") -> String {
        """
        {"kind":"PodList","metadata":{"resourceVersion":"\(version)","continue":"\(next)"},\
        "items":[\(names.map { pod($0) }.joined(separator: ","))]}
        """
    }

    static func event(_ type: String, _ name: String, label: String = "x") -> String {
        "{\"type\":\"\(type)\",\"object\":\(pod(name, label: label))}\n"
    }

    @Test("Lists by pages, then watches from the list's version")
    func listThenWatch() throws {
        var rig = Rig()
        let first = try rig.next()
        #expect(first.target == "/api/v1/namespaces/default/pods?labelSelector=app%3Dvllm&limit=500")
        rig.receive(Self.page(["a"], version: "250", next: "token+1"))
        let page = rig.end()
        let second = try #require(page)
        #expect(second.target.hasSuffix("&limit=500&continue=token%2B1"))
        #expect(!rig.watch.isSynced)
        rig.receive(Self.page(["b"], version: "250"))
        let more = rig.end()
        #expect(more == nil)
        #expect(rig.names == ["a", "b"])
        #expect(rig.watch.isSynced)
        #expect(rig.watch.standing == .live)
        let watch = try rig.next()
        #expect(watch.target.contains("watch=1&allowWatchBookmarks=true&resourceVersion=250&timeoutSeconds="))
    }

    @Test("A real watch's events, cut anywhere", arguments: [1, 2, 7, 100, 4096, 1 << 20])
    func realEvents(_ size: Int) throws {
        let transcript = try Transcript("watch_pods_from_253")
        var rig = Rig()
        rig.list([])
        _ = rig.request()
        var seen: [[String]] = []
        for start in stride(from: 0, to: transcript.body.count, by: size) {
            let piece = Array(transcript.body[start..<min(start + size, transcript.body.count)])
            let goesOn = rig.watch.received(piece, status: transcript.status)
            #expect(goesOn)
            if seen.last != rig.names { seen.append(rig.names) }
        }
        #expect(rig.watch.counts.events == 4)
        #expect(rig.names.isEmpty)
        if size < 4096 { #expect(seen == [[], ["a"], []]) }
        rig.end()
        let next = try rig.next()
        #expect(next.target.contains("resourceVersion=257&"))
    }

    @Test("A real list and a real 410")
    func realListAndGone() throws {
        let transcript = try Transcript("list_pools")
        var random = SplitMix64(seed: 1)
        let place = ResourcePlace(
            group: "inference.networking.k8s.io",
            version: "v1",
            plural: "inferencepools",
            namespace: "default"
        )
        var watch = ResourceWatch<InferencePool>(place)
        _ = watch.request(at: 0, using: &random)
        _ = watch.received(transcript.body, status: 200)
        _ = watch.ended(status: 200, failure: nil, at: 0, using: &random)
        let pool = try #require(watch.objects[ObjectName(namespace: "default", name: "p")])
        #expect(pool.matchLabels == ["app": "vllm"])
        #expect(pool.targetPorts == [8000])
        let due = watch.request(at: 0, using: &random)
        let request = try #require(due)
        #expect(request.target.contains("resourceVersion=273"))
        // From here the server has forgotten our version.
        let goesOn = watch.received(try Transcript("watch_410").body, status: 200)
        #expect(!goesOn)
        _ = watch.ended(status: 200, failure: .connectionLost, at: 3, using: &random)
        let later = watch.request(at: 3, using: &random)
        let fresh = try #require(later)
        #expect(fresh.query.contains { $0.name == "limit" })
        #expect(!fresh.query.contains { $0.name == "watch" })
        #expect(watch.objects.count == 1)
        #expect(watch.counts.expirations == 1)
    }

    @Test("A bookmark moves the version on without an object")
    func bookmark() throws {
        var rig = Rig()
        rig.list(["a"])
        _ = rig.request()
        let revision = rig.watch.revision
        rig.receive(
            "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Pod\",\"metadata\":{\"resourceVersion\":\"900\"}}}\n"
        )
        #expect(rig.watch.revision == revision)
        rig.end()
        let following = try rig.next()
        #expect(following.target.contains("resourceVersion=900&"))
    }

    @Test("410 as a status of a watch leads to a fresh list; a server that always says so is not flooded")
    func goneByStatus() throws {
        var rig = Rig()
        var asked = 0
        for _ in 0..<200 {
            rig.now += 0.01
            guard let request = rig.request() else { continue }
            asked += 1
            if request.query.contains(where: { $0.name == "watch" }) {
                rig.end(410)
            } else {
                rig.receive(Self.page(["a"], version: "5"))
                rig.end()
            }
        }
        #expect(rig.watch.counts.expirations >= 2)
        #expect(asked < 20)
        #expect(rig.names == ["a"])
    }

    @Test("Pages that expire are followed by a list without pages")
    func expiredPages() throws {
        var rig = Rig()
        _ = rig.request()
        rig.receive(Self.page(["a"], version: "5", next: "t"))
        _ = rig.end()
        rig.receive("{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\"}", status: 410)
        let more = rig.end(410)
        #expect(more == nil)
        let whole = try rig.next()
        #expect(!whole.query.contains { $0.name == "limit" || $0.name == "continue" })
    }

    @Test("Every failure keeps the objects and is retried later and later")
    func failures() throws {
        let kinds: [(Int, KubernetesFailure?)] = [
            (0, .unreachable("x")), (0, .timedOut), (200, .connectionLost), (500, nil), (429, nil), (401, nil),
            (0, .tls("x")),
        ]
        for (status, failure) in kinds {
            var rig = Rig()
            rig.list(["a"])
            var waits: [Double] = []
            for _ in 0..<8 {
                rig.now = rig.watch.nextWake
                _ = try rig.next()
                rig.end(status, failure)
                waits.append(rig.watch.nextWake - rig.now)
            }
            #expect(rig.names == ["a"])
            #expect(rig.watch.standing.isTrouble)
            #expect(waits.allSatisfy { $0 >= 0.25 && $0 <= 30 })
            #expect(try #require(waits.last) >= 15)
            rig.now = rig.watch.nextWake
            _ = rig.request()
            rig.receive(Self.event("ADDED", "b"))
            rig.end()
            #expect(rig.watch.standing == .live)
            #expect(rig.names == ["a", "b"])
        }
    }

    @Test("Retry-After is kept to")
    func retryAfter() {
        var rig = Rig()
        _ = rig.request()
        rig.end(429, retryAfter: 7)
        #expect(rig.watch.nextWake == 7)
    }

    @Test("A kind that is not installed is noticed when it appears, and when it leaves")
    func absent() throws {
        var rig = Rig()
        rig.watch = ResourceWatch(ResourcePlace(group: "llm-d.ai", version: "v1alpha2", plural: "inferenceobjectives"))
        _ = rig.request()
        rig.receive("404 page not found\n", status: 404)
        rig.end(404)
        #expect(rig.watch.standing == .absent)
        #expect(rig.watch.isSynced)
        #expect(rig.watch.nextWake > 10)
        rig.now = rig.watch.nextWake
        rig.list(["a"])
        #expect(rig.watch.standing == .live)
        #expect(rig.names == ["a"])
        _ = rig.request()
        rig.receive(Self.noSuchKind, status: 404)
        rig.end(404)
        rig.now = rig.watch.nextWake
        let following = try rig.next()
        #expect(following.query.contains { $0.name == "limit" })
        rig.receive(Self.noSuchKind, status: 404)
        rig.end(404)
        #expect(rig.names == ["a"])
        let since = rig.now
        while rig.now < since + 61, rig.watch.standing != .absent {
            rig.now = rig.watch.nextWake
            _ = rig.request()
            rig.receive(Self.noSuchKind, status: 404)
            rig.end(404)
        }
        #expect(rig.names.isEmpty)
        #expect(rig.now - since >= 29)
    }

    /// What a server writes for the path of a group that it does not serve.
    private static let noSuchKind = "404 page not found\n"

    @Test(
        "A 404 that is none of an API server's takes no object away, however often it comes",
        arguments: [
            ("pods", noSuchKind), ("inferencepools", "<html>404 Not Found</html>"), ("inferencepools", ""),
        ]
    )
    func foreignAbsence(_ plural: String, _ body: String) throws {
        var rig = Rig()
        let group = plural == "pods" ? "" : "inference.networking.k8s.io"
        rig.watch = ResourceWatch(ResourcePlace(group: group, version: "v1", plural: plural, namespace: "default"))
        rig.list(["a"])
        for _ in 0..<40 {
            rig.now = max(rig.watch.nextWake, rig.now)
            _ = rig.request()
            rig.receive(body, status: 404)
            rig.end(404)
            #expect(rig.names == ["a"])
        }
        #expect(rig.now > 300)
        #expect(rig.watch.standing.isTrouble)
        rig.now = rig.watch.nextWake
        rig.list(["a", "b"])
        #expect(rig.watch.standing == .live)
        #expect(rig.names == ["a", "b"])
    }

    @Test("What RBAC denies is said in the server's words")
    func denied() {
        var rig = Rig()
        _ = rig.request()
        rig.receive(
            "{\"kind\":\"Status\",\"message\":\"pods is forbidden: User \\\"x\\\" cannot list\",\"code\":403}",
            status: 403
        )
        rig.end(403)
        #expect(rig.watch.standing == .denied("pods is forbidden: User \"x\" cannot list"))
        #expect(!rig.watch.isSynced)
    }

    @Test("Garbage is no event: the watch ends, the objects stay, a list follows")
    func garbage() throws {
        for text in [
            "<html>\n", "{\"type\":\"ADDED\"}\n", "{\"type\":\"NEWS\",\"object\":{\"metadata\":{}}}\n",
            "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"labels\":7}}}\n", "[]\n", "\u{0}\n",
        ] {
            var rig = Rig()
            rig.list(["a"])
            _ = rig.request()
            let goesOn = rig.receive(text)
            #expect(!goesOn, "\(text)")
            rig.end(200, .connectionLost)
            #expect(rig.names == ["a"])
            rig.now = rig.watch.nextWake
            let following = try rig.next()
            #expect(following.query.contains { $0.name == "limit" })
        }
        var rig = Rig()
        _ = rig.request()
        rig.receive("<html>")
        rig.end()
        guard case .failing(.garbage) = rig.watch.standing else {
            Issue.record("\(rig.watch.standing)")
            return
        }
    }

    @Test("A watch that goes on ends the trouble that was told, not the first word of one")
    func troubleEnds() throws {
        var rig = Rig()
        rig.list(["a"])
        _ = try rig.next()
        rig.end(0, .connectionLost)
        #expect(rig.watch.standing == .failing(.connectionLost))
        for _ in 0..<3 {
            rig.now = rig.watch.nextWake
            _ = try rig.next()
            #expect(rig.watch.nextWake == .infinity)
            // The headers came, and no event.
            rig.receive("")
            #expect(rig.watch.nextWake == rig.now + 1)
            rig.now += 0.9
            #expect(rig.request() == nil)
            #expect(rig.watch.standing == .failing(.connectionLost))
            rig.end(200, .connectionLost)
        }
        rig.now = rig.watch.nextWake
        _ = try rig.next()
        rig.receive("")
        rig.now = rig.watch.nextWake
        let before = rig.watch.revision
        #expect(rig.request() == nil)
        #expect(rig.watch.standing == .live)
        #expect(rig.watch.revision != before)
        #expect(rig.watch.nextWake == .infinity)
        #expect(rig.names == ["a"])
    }

    @Test("An object that cannot be read keeps its last good state, and is named with the field")
    func invalidObject() throws {
        var rig = Rig()
        rig.list(["a", "b"])
        _ = rig.request()
        rig.receive(
            "{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":\"a\",\"namespace\":\"default\"},\"spec\":7}}\n"
        )
        let name = ObjectName(namespace: "default", name: "a")
        #expect(rig.names == ["a", "b"])
        #expect(rig.watch.invalid[name] == "spec has the wrong type")
        rig.receive(Self.event("MODIFIED", "a"))
        #expect(rig.watch.invalid.isEmpty)
        rig.receive(
            "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"c\",\"namespace\":\"default\"},\"spec\":{\"containers\":7}}}\n"
        )
        #expect(rig.names == ["a", "b"])
        #expect(rig.watch.invalid.count == 1)
        rig.receive(
            "{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"name\":\"c\",\"namespace\":\"default\"},\"spec\":{\"containers\":7}}}\n"
        )
        #expect(rig.watch.invalid.isEmpty)
    }

    @Test("A revision is a change: the same object again is none")
    func revisions() {
        var rig = Rig()
        rig.list(["a"])
        _ = rig.request()
        let before = rig.watch.revision
        rig.receive(Self.event("MODIFIED", "a"))
        #expect(rig.watch.revision == before)
        rig.receive(Self.event("MODIFIED", "a", label: "y"))
        #expect(rig.watch.revision == before + 1)
    }

    @Test("Lists are bounded in bytes and in objects")
    func bounds() {
        var settings = WatchSettings()
        settings.maxListBytes = 1000
        settings.maxObjects = 3
        var rig = Rig(settings)
        _ = rig.request()
        let goesOn = rig.receive(String(repeating: "x", count: 1001))
        #expect(!goesOn)
        rig.end(200, .connectionLost)
        #expect(rig.watch.standing == .failing(.tooLarge))
        settings.maxListBytes = 10_000
        rig = Rig(settings)
        rig.list(["a", "b", "c", "d"])
        #expect(rig.watch.standing == .failing(.tooLarge))
    }

    /// Any order of ends, cuts and failures leaves the machine asking, and its objects those of the server's last list.
    @Test("Under random faults it converges on what the server holds", arguments: 1...20)
    func converges(_ seed: Int) throws {
        var faults = SplitMix64(seed: UInt64(seed))
        var rig = Rig()
        var server: Set<String> = []
        var version = 10
        for step in 0..<400 {
            let isQuiet = step > 340
            if !isQuiet, Bool.random(using: &faults) {
                let name = "p\(Int.random(in: 0..<6, using: &faults))"
                if server.remove(name) == nil { server.insert(name) }
                version += 1
            }
            rig.now = max(rig.now, min(rig.watch.nextWake, rig.now + 100))
            guard let request = rig.request() else { continue }
            let fault = isQuiet ? 9 : Int.random(in: 0..<10, using: &faults)
            switch fault {
            case 0: rig.end(0, .connectionLost)
            case 1: rig.end(500)
            case 2:
                rig.receive("garb")
                rig.end(200, .timedOut)
            default:
                if request.query.contains(where: { $0.name == "watch" }) {
                    // The past is always forgotten: events are the other tests' matter.
                    rig.end(410)
                } else {
                    rig.receive(Self.page(server.sorted(), version: String(version)))
                    rig.end()
                }
            }
            rig.now += 1
        }
        #expect(rig.names == server.sorted())
    }
}
