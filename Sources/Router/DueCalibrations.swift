// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Pods whose states have yet to take what their configuration has learned.
///
/// One answer can teach a configuration of hundreds of pods; telling all of them at once took 300 µs with 700 pods. So they
/// are told some at a time, with the events that follow, in turn: none is passed over however often there is news.
struct DueCalibrations: Sendable {
    /// Pods that are told at a time: when an event comes, and with each lesson that it teaches.
    static let atOnce = 64

    private var isDue: [Bool]
    private(set) var count = 0
    private var next = 0

    /// For a fleet of so many pods, all of which know everything.
    init(pods: Int = 0) { isDue = [Bool](repeating: false, count: pods) }

    mutating func add(_ pods: [Int]) {
        for pod in pods where !isDue[pod] {
            isDue[pod] = true
            count += 1
        }
    }

    /// The next pod in turn, which is then no longer due.
    mutating func take() -> Int? {
        guard count > 0 else { return nil }
        while !isDue[next] { next = (next + 1) % isDue.count }
        defer { next = (next + 1) % isDue.count }
        isDue[next] = false
        count -= 1
        return next
    }
}
