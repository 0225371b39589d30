// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Puts the length-prefixed messages of a gRPC stream together (gRPC over HTTP/2, section "Length-Prefixed-Message").
///
/// A message that lies within one piece is lent from there; only one that is split is gathered.
struct GRPCMessageReader: ~Copyable {
    /// Compressed-flag byte, then four bytes of length.
    static let prefixBytes = 5

    /// Room is made for a whole message as soon as this part of it has come: nobody gets the room of a large message for
    /// the claim that one comes, and most messages that are cut are made room for once.
    private static let trustedPart = 4

    private var gathered = ByteQueue()

    /// Bytes of a message that is not whole.
    var gatheredBytes: Int { gathered.count }

    /// Whether the last message is complete.
    var isAtBoundary: Bool { gathered.isEmpty }

    /// Takes a piece of the stream, and delivers each message that it completes. `deliver` says whether to go on.
    mutating func read(
        _ piece: UnsafeRawBufferPointer,
        maxMessageBytes: Int,
        deliver: (_ compressed: Bool, _ message: UnsafeRawBufferPointer) throws(GRPCStatus) -> Bool
    ) throws(GRPCStatus) {
        var rest = unsafe piece[...]
        while unsafe !rest.isEmpty {
            if gathered.isEmpty, unsafe rest.count >= Self.prefixBytes {
                let prefix = try unsafe Prefix(UnsafeRawBufferPointer(rebasing: rest), maxMessageBytes)
                let whole = Self.prefixBytes + prefix.length
                if unsafe rest.count >= whole {
                    let message = unsafe UnsafeRawBufferPointer(rebasing: rest.dropFirst(Self.prefixBytes))
                    unsafe rest = rest.dropFirst(whole)
                    guard
                        try unsafe deliver(
                            prefix.compressed,
                            UnsafeRawBufferPointer(rebasing: message[..<prefix.length])
                        )
                    else { return }
                    continue
                }
            }
            guard try unsafe gather(&rest, maxMessageBytes, deliver) else { return }
        }
    }

    private mutating func gather(
        _ rest: inout Slice<UnsafeRawBufferPointer>,
        _ maxMessageBytes: Int,
        _ deliver: (_ compressed: Bool, _ message: UnsafeRawBufferPointer) throws(GRPCStatus) -> Bool
    ) throws(GRPCStatus) -> Bool {
        unsafe take(&rest, upTo: Self.prefixBytes)
        guard gathered.count >= Self.prefixBytes else { return true }
        let prefix = try unsafe Prefix(gathered.bytes, maxMessageBytes)
        let missing = Self.prefixBytes + prefix.length - gathered.count
        let next = unsafe min(rest.count, missing)
        if gathered.spare < next { gathered.reserve(min(missing, Self.trustedPart * (gathered.count + next))) }
        unsafe take(&rest, upTo: Self.prefixBytes + prefix.length)
        guard gathered.count == Self.prefixBytes + prefix.length else { return true }
        let message = unsafe UnsafeRawBufferPointer(rebasing: gathered.bytes.dropFirst(Self.prefixBytes))
        defer { gathered.removeAll() }
        return try unsafe deliver(prefix.compressed, message)
    }

    /// Moves bytes until `count` are gathered, or none is left.
    private mutating func take(_ rest: inout Slice<UnsafeRawBufferPointer>, upTo count: Int) {
        let missing = unsafe min(count - gathered.count, rest.count)
        guard missing > 0 else { return }
        unsafe gathered.append(UnsafeRawBufferPointer(rebasing: rest.prefix(missing)))
        unsafe rest = rest.dropFirst(missing)
    }

    /// The five bytes before each message.
    private struct Prefix {
        let compressed: Bool
        let length: Int

        init(_ bytes: UnsafeRawBufferPointer, _ maxMessageBytes: Int) throws(GRPCStatus) {
            let flag = unsafe bytes[0]
            guard flag <= 1 else { throw GRPCStatus(.internal, "compressed flag \(flag) is neither 0 nor 1") }
            compressed = flag == 1
            length = unsafe Int(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 1, as: UInt32.self)))
            guard length <= maxMessageBytes else {
                throw GRPCStatus(.resourceExhausted, "message of \(length) bytes, at most \(maxMessageBytes) are taken")
            }
        }
    }
}
