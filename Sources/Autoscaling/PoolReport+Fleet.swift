// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router

extension PoolReport {
    /// In the order of names.
    static func of(_ fleet: [EndpointStatus]) -> [PoolReport] {
        var pools: [String: PoolReport] = [:]
        var known: [String: (count: Int, kvUse: Double, waiting: Int)] = [:]
        for status in fleet {
            let name = status.endpoint.pool
            var pool = pools[name] ?? PoolReport(pool: name)
            pool.readyPods += status.unavailable == nil ? 1 : 0
            if let load = status.load {
                pool.pods.append(Pod(name: status.endpoint.name, waiting: load.waiting))
                var sums = known[name] ?? (0, 0, 0)
                sums = (sums.count + 1, sums.kvUse + load.kvUse, sums.waiting + load.waiting)
                known[name] = sums
            }
            pools[name] = pool
        }
        return pools.keys.sorted().compactMap { name in
            guard var pool = pools[name] else { return nil }
            if let sums = known[name] {
                pool.kvUse = sums.kvUse / Double(sums.count)
                pool.queueSize = Double(sums.waiting) / Double(sums.count)
            }
            return pool
        }
    }
}
