// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Takes an answer's bytes from libcurl.
///
/// A class, because libcurl holds its address as the context of `receiveFromCurl`: it must live as long as its handle.
@safe package final class CurlReceiver {
    /// Returns false to give the answer up. It must not hold the receiver's owner.
    package var take: (UnsafeBufferPointer<UInt8>) -> Bool = { _ in false }

    package init() {}

    package var context: UnsafeMutableRawPointer { unsafe Unmanaged.passUnretained(self).toOpaque() }
}

/// libcurl's write callback, of handles whose context is a `CurlReceiver`.
package func receiveFromCurl(
    _ bytes: UnsafeMutablePointer<CChar>?,
    _ size: Int,
    _ count: Int,
    _ context: UnsafeMutableRawPointer?
) -> Int {
    guard let bytes = unsafe bytes, let context = unsafe context else { return 0 }
    let receiver = unsafe Unmanaged<CurlReceiver>.fromOpaque(context).takeUnretainedValue()
    let length = size * count
    let start = unsafe UnsafeRawPointer(bytes).assumingMemoryBound(to: UInt8.self)
    return unsafe receiver.take(UnsafeBufferPointer(start: start, count: length)) ? length : 0
}
