// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CZlib

/// Decompresses gzip messages, one after another, into one buffer. Owns one `z_stream`.
@safe struct GzipInflater: ~Copyable {
    /// 15 bits of window, plus 16: a gzip wrapper (zlib.h, inflateInit2).
    private static let gzipWindowBits: CInt = 15 + 16
    private static let step = 16 << 10

    private let stream: UnsafeMutablePointer<z_stream>
    private var output = ByteQueue()

    init() throws(GRPCStatus) {
        unsafe stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
        unsafe stream.initialize(to: z_stream())
        let size = unsafe CInt(MemoryLayout<z_stream>.size)
        guard unsafe inflateInit2_(stream, Self.gzipWindowBits, ZLIB_VERSION, size) == Z_OK else {
            unsafe stream.deallocate()
            throw GRPCStatus(.internal, "no memory to decompress")
        }
    }

    deinit {
        unsafe inflateEnd(stream)
        unsafe stream.deallocate()
    }

    /// Decompresses one whole message, and lends it to `body`.
    mutating func inflate<Result>(
        _ message: UnsafeRawBufferPointer,
        maxBytes: Int,
        _ body: (UnsafeRawBufferPointer) throws(GRPCStatus) -> Result
    ) throws(GRPCStatus) -> Result {
        defer { output.removeAll() }
        unsafe inflateReset(stream)
        // zlib's input pointer is not const, but zlib does not write through it.
        unsafe stream.pointee.next_in = UnsafeMutablePointer(
            mutating: message.baseAddress?.assumingMemoryBound(to: UInt8.self)
        )
        unsafe stream.pointee.avail_in = UInt32(clamping: message.count)
        while true {
            var result = Z_OK
            let stream = unsafe stream
            let produced = unsafe output.append(upTo: Self.step) { room in
                unsafe stream.pointee.next_out = room.baseAddress?.assumingMemoryBound(to: UInt8.self)
                unsafe stream.pointee.avail_out = UInt32(room.count)
                unsafe result = CZlib.inflate(stream, Z_NO_FLUSH)
                return unsafe room.count - Int(stream.pointee.avail_out)
            }
            guard output.count <= maxBytes else {
                throw GRPCStatus(.resourceExhausted, "decompressed message is larger than \(maxBytes) bytes")
            }
            if result == Z_STREAM_END { break }
            guard result == Z_OK, produced > 0 else { throw GRPCStatus(.internal, "message is not valid gzip") }
        }
        guard unsafe stream.pointee.avail_in == 0 else { throw GRPCStatus(.internal, "bytes after the gzip message") }
        return try unsafe body(output.bytes)
    }
}
