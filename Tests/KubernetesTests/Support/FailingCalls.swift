// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CCurl
import Configuration
import Fleet
import Locks
import Synchronization
import Testing

@testable import Kubernetes

/// libcurl and files, of which the n-th call of some kind goes wrong.
final class FailingCalls: APICalls {
    enum Fault: Hashable, CaseIterable, CustomTestStringConvertible {
        case easyHandle, multiHandle, setting, list, perform, add, remove, advance, result, poll, file, emptyFile

        var testDescription: String { "\(self)" }
    }

    private let fault: Fault?
    private let countdown: Atomic<Int>
    private let opened = Atomic(0)
    private let closed = Atomic(0)
    private let settings = Guarded<[(option: UInt32, isNothing: Bool)]>([])
    private let real = LibcurlCalls()

    init(_ fault: Fault?, callNumber: Int = .max) {
        self.fault = fault
        countdown = Atomic(callNumber)
    }

    /// Whether the n-th call came.
    var hasFailed: Bool { countdown.load(ordering: .relaxed) <= 0 }
    /// Handles that are open.
    var handles: Int { opened.load(ordering: .relaxed) - closed.load(ordering: .relaxed) }
    /// Options that were taken away from libcurl.
    var clearedOptions: [UInt32] { settings.withLock { $0.filter(\.isNothing).map(\.option) } }
    var options: [UInt32] { settings.withLock { $0.map(\.option) } }

    private func isDue(_ kind: Fault) -> Bool {
        kind == fault && countdown.subtract(1, ordering: .relaxed).newValue == 0
    }

    func easyHandle() -> UnsafeMutableRawPointer? {
        guard !isDue(.easyHandle) else { return nil }
        opened.add(1, ordering: .relaxed)
        return unsafe real.easyHandle()
    }

    func multiHandle() -> UnsafeMutableRawPointer? {
        guard !isDue(.multiHandle) else { return nil }
        opened.add(1, ordering: .relaxed)
        return unsafe real.multiHandle()
    }

    func release(easy handle: UnsafeMutableRawPointer) {
        closed.add(1, ordering: .relaxed)
        unsafe real.release(easy: handle)
    }

    func release(multi: UnsafeMutableRawPointer) {
        closed.add(1, ordering: .relaxed)
        unsafe real.release(multi: multi)
    }

    func set(_ handle: UnsafeMutableRawPointer, _ option: CURLoption, _ value: APISetting) -> CURLcode {
        guard !isDue(.setting) else { return CURLE_OUT_OF_MEMORY }
        let isNothing = if case .nothing = value { true } else { false }
        settings.withLock { $0.append((option.rawValue, isNothing)) }
        return unsafe real.set(handle, option, value)
    }

    func setCommon(_ handle: UnsafeMutableRawPointer) -> CURLcode {
        isDue(.setting) ? CURLE_OUT_OF_MEMORY : unsafe real.setCommon(handle)
    }

    func setReceivers(_ handle: UnsafeMutableRawPointer, body: CurlReceiver, header: CurlReceiver) -> CURLcode {
        guard !isDue(.setting) else { return CURLE_OUT_OF_MEMORY }
        return unsafe real.setReceivers(handle, body: body, header: header)
    }

    func append(_ line: String, to list: UnsafeMutablePointer<curl_slist>?) -> UnsafeMutablePointer<curl_slist>? {
        isDue(.list) ? nil : unsafe real.append(line, to: list)
    }

    func perform(_ handle: UnsafeMutableRawPointer) -> CURLcode {
        isDue(.perform) ? CURLE_RECV_ERROR : unsafe real.perform(handle)
    }

    func add(_ handle: UnsafeMutableRawPointer, to multi: UnsafeMutableRawPointer) -> CURLMcode {
        isDue(.add) ? CURLM_OUT_OF_MEMORY : unsafe real.add(handle, to: multi)
    }

    func remove(_ handle: UnsafeMutableRawPointer, from multi: UnsafeMutableRawPointer) -> CURLMcode {
        isDue(.remove) ? CURLM_INTERNAL_ERROR : unsafe real.remove(handle, from: multi)
    }

    func advance(_ multi: UnsafeMutableRawPointer) -> CURLMcode {
        isDue(.advance) ? CURLM_OUT_OF_MEMORY : unsafe real.advance(multi)
    }

    func finished(_ multi: UnsafeMutableRawPointer, _ result: inout CURLcode) -> UnsafeMutableRawPointer? {
        guard let handle = unsafe real.finished(multi, &result) else { return nil }
        if isDue(.result) { result = CURLE_RECV_ERROR }
        return unsafe handle
    }

    func poll(_ multi: UnsafeMutableRawPointer, milliseconds: CInt) -> CURLMcode {
        isDue(.poll) ? CURLM_OUT_OF_MEMORY : unsafe real.poll(multi, milliseconds: milliseconds)
    }

    func text(path: String, limit: Int) throws(FileContents.Failure) -> String {
        if isDue(.file) { throw .system("Input/output error") }
        return isDue(.emptyFile) ? "\n" : try real.text(path: path, limit: limit)
    }
}
