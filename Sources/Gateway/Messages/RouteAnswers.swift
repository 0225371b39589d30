// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The answers to request headers that were written last: a fleet has few routes, and each is taken many times. Confined to
/// one loop.
struct RouteAnswers {
    private struct Entry {
        let destinations: String
        let prefiller: String?
        let message: [UInt8]
    }

    /// Routes that are kept; of those that share a place, the last one is. A power of two.
    private static let places = 512

    private var entries = [Entry?](repeating: nil, count: places)

    /// - Returns: the message for that route, written by `make` where it is not known.
    mutating func message(destinations: String, prefiller: String?, make: () -> [UInt8]) -> [UInt8] {
        let place = Self.place(destinations, prefiller)
        if let known = entries[place], known.destinations == destinations, known.prefiller == prefiller {
            return known.message
        }
        let message = make()
        entries[place] = Entry(destinations: destinations, prefiller: prefiller, message: message)
        return message
    }

    private static func place(_ destinations: String, _ prefiller: String?) -> Int {
        // FNV-1a.
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in destinations.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        for byte in (prefiller ?? "").utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return Int((hash ^ hash >> 32) & UInt64(places - 1))
    }
}
