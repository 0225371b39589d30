// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import Dispatch
import Fleet
import Foundation
import Glibc
import Logging
import PrefixIndex
import Router

/// Keeps the exact prefix index over a restart: what engines cache outlives the picker, and they do not tell it twice.
final class PrefixIndexFile: Sendable {
    /// Whose blocks they are, and where each publisher stood: beside the index, in the same file.
    struct Notes: Codable {
        struct Position: Codable {
            var holder: UInt32
            var rank: Int
            /// The number of the batch that follows on what the index holds.
            var next: UInt64
        }

        /// Seconds since 1970.
        var savedAt: Double
        var endpoints: [EndpointRegistry.Known]
        /// Shared stores, in the order of the configuration.
        var stores: [String]
        var positions: [Position]
    }

    /// What an earlier process knew.
    struct Kept {
        let index: EventPrefixIndex
        var endpoints: [EndpointRegistry.Known] = []
        var positions: [EventSourceID: UInt64] = [:]
    }

    /// What a crash may lose; what has happened since is asked for again where engines keep it.
    private static let saveInterval = DispatchTimeInterval.seconds(60)
    /// An older file says little: an engine under load turns its cache over in minutes, and one that restarted meanwhile may
    /// have come as far again in its count of batches.
    private static let mostSeconds = 600.0

    private let path: String
    private let stores: [String]
    private let log: Logger
    private let queue = DispatchQueue(label: "prefix-index-file", qos: .utility)

    init(path: String, stores: [String], log: Logger) {
        self.path = path
        self.stores = stores
        self.log = log
    }

    // MARK: - Loading

    /// The index of the file; an empty one where there is none or it cannot be used, which is then set aside.
    func load(budget: Int, unit: Int) throws(IndexMemoryError) -> Kept {
        guard unsafe access(path, F_OK) == 0 else {
            log.info("no prefix index kept yet", metadata: ["file": "\(path)"])
            return Kept(index: try EventPrefixIndex(budget: budget, unit: unit))
        }
        switch read(budget: budget, unit: unit) {
        case .success(let kept):
            log.info(
                "prefix index restored",
                metadata: [
                    "file": "\(path)", "blocks": "\(kept.index.statistics.trie.blocks)",
                    "publishers": "\(kept.positions.count)",
                ]
            )
            return kept
        case .failure(.isTooOld(let seconds)):
            log.info("the prefix index kept is too old", metadata: ["file": "\(path)", "seconds": "\(Int(seconds))"])
        case .failure(.cannotBeUsed(let reason)):
            let name = KeptFile.setAside(path)
            log.warning(
                "the prefix index begins anew",
                metadata: [
                    "file": "\(path)", "reason": "\(reason)", "kept-as": "\(name ?? "it could not be renamed")",
                ]
            )
        }
        return Kept(index: try EventPrefixIndex(budget: budget, unit: unit))
    }

    private enum Refusal: Error {
        case cannotBeUsed(String)
        case isTooOld(Double)
    }

    private func read(budget: Int, unit: Int) -> Result<Kept, Refusal> {
        let index: EventPrefixIndex
        do {
            // A snapshot is smaller than the index in it.
            let bytes = try FileContents.bytes(path: path, limit: 2 * budget)
            index = try EventPrefixIndex(snapshot: bytes, budget: budget, now: KVEventService.now)
        } catch {
            return .failure(.cannotBeUsed("\(error)"))
        }
        guard index.unit == unit else {
            return .failure(.cannotBeUsed("cut in blocks of \(index.unit) tokens"))
        }
        let notes: Notes
        do {
            notes = try JSONDecoder().decode(Notes.self, from: Data(index.notes))
        } catch {
            return .failure(.cannotBeUsed("not written by serve: \(error)"))
        }
        let age = Date().timeIntervalSince1970 - notes.savedAt
        guard age <= Self.mostSeconds else { return .failure(.isTooOld(age)) }
        return .success(kept(index, notes))
    }

    /// What belongs to nobody any more is taken out: publishers without a position, and stores that are now others.
    private func kept(_ index: EventPrefixIndex, _ notes: Notes) -> Kept {
        var kept = Kept(index: index, endpoints: notes.endpoints)
        var holders = Set(notes.endpoints.map(\.id))
        for (place, name) in notes.stores.enumerated() where place < stores.count && stores[place] == name {
            holders.insert(SharedStore.id(place).rawValue)
        }
        for position in notes.positions where holders.contains(position.holder) {
            kept.positions[EventSourceID(holder: position.holder, rank: position.rank)] = position.next
        }
        for source in index.sources where kept.positions[source] == nil { index.clear(source) }
        for holder in Set(index.sources.map(\.holder)).subtracting(holders).sorted() { index.remove(holder: holder) }
        return kept
    }

    // MARK: - Saving

    /// Saves now and then from now on.
    func start(_ events: KVEventService, _ places: KVEventPlaces) {
        queue.asyncAfter(deadline: .now() + Self.saveInterval) { [weak self] in
            guard let self else { return }
            events.look { [weak self] index, positions in
                guard let self else { return }
                let bytes = snapshot(index, positions, places)
                queue.async { self.write(bytes) }
            }
            start(events, places)
        }
    }

    /// Keeps what a service that has stopped knew. Waits until it is written.
    func save(_ events: KVEventService, _ places: KVEventPlaces) {
        events.look { [self] index, positions in
            let bytes = snapshot(index, positions, places)
            queue.sync { write(bytes) }
        }
    }

    private func snapshot(
        _ index: EventPrefixIndex,
        _ positions: [EventSourceID: UInt64],
        _ places: KVEventPlaces
    ) -> [UInt8] {
        let notes = Notes(
            savedAt: Date().timeIntervalSince1970,
            endpoints: places.known,
            stores: stores,
            positions: positions.sorted { $0.key < $1.key }.map {
                Notes.Position(holder: $0.key.holder, rank: $0.key.rank, next: $0.value)
            }
        )
        let encoded = (try? JSONEncoder().encode(notes)).map { Array($0) } ?? []
        return index.snapshot(notes: encoded)
    }

    private func write(_ bytes: [UInt8]) {
        do {
            try KeptFile.write(bytes, path: path)
        } catch {
            log.error("the prefix index cannot be kept", metadata: ["error": "\(error)"])
        }
    }
}
