// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A monitor for each pool of destinations: a pool whose answers show no first token must not end the order of another's.
struct BindingMonitors: Sendable {
    /// Pools with pods that decode, in the order of their first.
    private(set) var pools: [String] = []
    private var monitors: [BindingMonitor] = []
    /// The pool of each endpoint of the fleet, as a place in `pools`; nil for pods that answer nobody.
    private var places: [Int?] = []
    /// No pool is doubted: most of the time nothing else need be asked.
    private(set) var allAreTrusted = true
    /// Trust in a pool has ended since the queue was last looked through.
    private(set) var hasNewDoubt = false

    /// Keeps what is known of pools that stay.
    mutating func follow(_ endpoints: [EndpointStatus]) {
        var known: [String: BindingMonitor] = [:]
        for (pool, monitor) in zip(pools, monitors) { known[pool] = monitor }
        var found: [String: Int] = [:]
        pools.removeAll()
        monitors.removeAll()
        places.removeAll(keepingCapacity: true)
        for status in endpoints {
            guard status.endpoint.role.canDecode else {
                places.append(nil)
                continue
            }
            let name = status.endpoint.pool
            if found[name] == nil {
                found[name] = pools.count
                pools.append(name)
                monitors.append(known[name] ?? BindingMonitor())
            }
            places.append(found[name])
        }
        allAreTrusted = monitors.allSatisfy(\.isTrusted)
    }

    /// The pools of these endpoints, each once.
    func places(of endpoints: [Int]) -> [Int] {
        var result: [Int] = []
        for endpoint in endpoints where places.indices.contains(endpoint) {
            if let place = places[endpoint], !result.contains(place) { result.append(place) }
        }
        return result
    }

    func trusts(_ places: [Int]) -> Bool {
        places.allSatisfy { !monitors.indices.contains($0) || monitors[$0].isTrusted }
    }

    func trusts(pool name: String) -> Bool { pools.firstIndex(of: name).map { monitors[$0].isTrusted } ?? true }

    mutating func firstToken(at endpoint: Int, predicted: Double, observed: Double) {
        guard places.indices.contains(endpoint), let place = places[endpoint] else { return }
        monitors[place].firstToken(predicted: predicted, observed: observed)
    }

    mutating func requestEnded(at endpoint: Int, firstTokenSeen: Bool) {
        guard places.indices.contains(endpoint), let place = places[endpoint] else { return }
        let before = monitors[place].isTrusted
        monitors[place].requestEnded(firstTokenSeen: firstTokenSeen)
        guard monitors[place].isTrusted != before else { return }
        allAreTrusted = monitors.allSatisfy(\.isTrusted)
        if before { hasNewDoubt = true }
    }

    /// Whoever has looked through the queue says so.
    mutating func doubtWasHeeded() { hasNewDoubt = false }
}
