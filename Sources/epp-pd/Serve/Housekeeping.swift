// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Dispatch
import Fleet
import Foundation
import Logging

/// What has to be done now and then, beside the data plane: keep the calibration, clear the prefix index.
final class Housekeeping: Sendable {
    /// What a crash may lose of the calibration.
    private static let saveInterval = DispatchTimeInterval.seconds(60)
    /// Steps of clearing at one go; each takes well below a millisecond.
    private static let stepsAtOnce = 64
    private static let clearInterval = DispatchTimeInterval.milliseconds(200)

    private let host: RouterHost
    private let prefixes: PrefixKnowledge
    private let calibrationFile: String?
    private let log: Logger
    private let queue = DispatchQueue(label: "housekeeping", qos: .utility)

    init(host: RouterHost, prefixes: PrefixKnowledge, calibrationFile: String?, log: Logger) {
        self.host = host
        self.prefixes = prefixes
        self.calibrationFile = calibrationFile
        self.log = log
    }

    /// Loads the calibration, and begins the rounds.
    func start() {
        if let calibrationFile { load(calibrationFile) }
        saveLater()
        clearLater()
    }

    /// Keeps what was learned up to now. Waits until it is written.
    func save() {
        guard let calibrationFile else { return }
        queue.sync {
            do {
                try CalibrationFile.save(host.calibrationState, path: calibrationFile)
            } catch {
                log.error("the calibration cannot be kept", metadata: ["error": "\(error)"])
            }
        }
    }

    private func load(_ path: String) {
        switch CalibrationFile.load(path: path) {
        case .absent:
            log.info("no calibration kept yet", metadata: ["file": "\(path)"])
        case .state(let state):
            host.restore(state)
            log.info(
                "calibration restored",
                metadata: [
                    "file": "\(path)", "pods": "\(state.pods.count)", "configurations": "\(state.shared.count)",
                    "transfers": "\(state.transferCosts.count)",
                ]
            )
        case .setAside(let reason, let name):
            log.warning(
                "the calibration begins anew",
                metadata: [
                    "file": "\(path)", "reason": "\(reason)", "kept-as": "\(name ?? "it could not be renamed")",
                ]
            )
        }
    }

    private func saveLater() {
        guard calibrationFile != nil else { return }
        DispatchQueue.global(qos: .utility).asyncAfter(deadline: .now() + Self.saveInterval) { [weak self] in
            self?.save()
            self?.saveLater()
        }
    }

    private func clearLater() {
        queue.asyncAfter(deadline: .now() + Self.clearInterval) { [weak self] in
            guard let self else { return }
            for _ in 0..<Self.stepsAtOnce where prefixes.maintain(now: KVEventService.now) {}
            clearLater()
        }
    }
}
