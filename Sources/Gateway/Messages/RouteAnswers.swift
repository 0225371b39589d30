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
        // FNV-1a's multiplication, of eight bytes at a time.
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        add(destinations, to: &hash)
        if let prefiller { add(prefiller, to: &hash) }
        return Int((hash ^ hash >> 32) & UInt64(places - 1))
    }

    private static func add(_ text: String, to hash: inout UInt64) {
        var text = text
        text.withUTF8 { utf8 in
            let bytes = UnsafeRawBufferPointer(utf8)
            var index = 0
            while index < bytes.count {
                let word = unsafe UnsafeRawBufferPointer(rebasing: bytes[index...]).firstWord
                hash = (hash ^ word) &* 0x100_0000_01B3
                // The product's high bits are where all of the word has been.
                hash ^= hash >> 29
                index += 8
            }
        }
    }
}
