// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Why a snapshot or a delta is refused. Nothing has changed then.
package enum SnapshotError: Error, Hashable, CustomStringConvertible {
    case notASnapshot
    /// Written by a later version of this program.
    case futureVersion(Int)
    case truncated
    case wrongChecksum
    /// Well-formed bytes that describe no index.
    case contradictory(String)
    /// It does not fit into the budget.
    case tooLarge
    case noMemory
    /// A delta that does not begin where the index stands.
    case gap(expected: UInt64, found: UInt64)

    package var description: String {
        switch self {
        case .notASnapshot: "not a file of the prefix index"
        case .futureVersion(let version):
            "version \(version) is later than this program knows (\(SnapshotFormat.version))"
        case .truncated: "the file ends too early"
        case .wrongChecksum: "the checksum does not match: the file is damaged"
        case .contradictory(let what): "the file contradicts itself: \(what)"
        case .tooLarge: "the index in it does not fit into the byte budget"
        case .noMemory: "the system refuses memory"
        case .gap(let expected, let found): "the delta begins at change \(found), the index stands at \(expected)"
        }
    }
}

/// The frame round a snapshot's or a delta's body.
///
///     8 bytes magic, u16 version, u16 reserved (0), u32 reserved (0), u64 body bytes, u64 XXH3-64 of the body; all little-endian
enum SnapshotFormat {
    static let version = 2
    /// What the owner may write beside the index.
    static let maxNotes = 16 << 20
    static let snapshotMagic: [UInt8] = Array("EPPDPFX\n".utf8)
    static let deltaMagic: [UInt8] = Array("EPPDPFD\n".utf8)
    static let headerBytes = 32

    static func framed(_ body: [UInt8], magic: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.bytes += magic
        writer.fixed(UInt16(version))
        writer.fixed(UInt16(0))
        writer.fixed(UInt32(0))
        writer.fixed(UInt64(body.count))
        writer.fixed(checksum(body))
        return writer.bytes + body
    }

    static func body(of file: [UInt8], magic: [UInt8]) throws(SnapshotError) -> ArraySlice<UInt8> {
        guard file.count >= magic.count, Array(file[..<magic.count]) == magic else { throw .notASnapshot }
        guard file.count >= headerBytes else { throw .truncated }
        var reader = ByteReader(file[magic.count...])
        let found = Int(try reader.fixed(UInt16.self))
        guard found <= version else { throw .futureVersion(found) }
        guard found == version else { throw .notASnapshot }
        _ = try reader.fixed(UInt16.self)
        _ = try reader.fixed(UInt32.self)
        let size = try reader.fixed(UInt64.self)
        let sum = try reader.fixed(UInt64.self)
        guard size <= UInt64(file.count - headerBytes) else { throw .truncated }
        guard size == UInt64(file.count - headerBytes) else { throw .contradictory("bytes behind the end") }
        let body = file[headerBytes...]
        guard checksum(Array(body)) == sum else { throw .wrongChecksum }
        return body
    }

    private static func checksum(_ body: [UInt8]) -> UInt64 {
        unsafe body.withUnsafeBytes { unsafe $0.baseAddress.map { unsafe BlockHash.bytes($0, count: body.count) } ?? 0 }
    }
}
